"""Colorize photographs of garden birds: from gray pictures to color."""

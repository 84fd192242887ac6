"""From finished run to colored picture: registry, pyfunc, web page, folders."""

"""The painter of the sample: gardens and their birds. `scene.paint` paints one picture."""

"""The networks: pure Keras, so that they also run under another backend than TensorFlow."""

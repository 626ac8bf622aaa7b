"""ResNet-50 v1.5: the mathematics of training and inference, and a folder for each framework."""

"""ResNet-50 v1.5: the mathematics in spec.py, one implementation file for each framework."""

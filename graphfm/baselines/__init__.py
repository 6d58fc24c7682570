"""The peers we are measured against, on the layers of PyG and the models of scikit-learn."""

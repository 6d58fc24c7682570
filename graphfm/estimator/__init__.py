"""Estimators GraphFMClassifier and GraphFMRegressor, with the interface of scikit-learn."""

from graphfm.estimator.classifier import GraphFMClassifier as GraphFMClassifier
from graphfm.estimator.cross_validation import (
    cross_val_predict_nodes as cross_val_predict_nodes,
)
from graphfm.estimator.load import load_fitted as load_fitted
from graphfm.estimator.regressor import GraphFMRegressor as GraphFMRegressor

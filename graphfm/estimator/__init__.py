"""GraphFMClassifier and GraphFMRegressor: fit, predict, score, embed, in scikit-learn's manners."""

from graphfm.estimator.classifier import GraphFMClassifier as GraphFMClassifier
from graphfm.estimator.load import load_fitted as load_fitted
from graphfm.estimator.regressor import GraphFMRegressor as GraphFMRegressor

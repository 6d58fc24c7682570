"""Recipes: one YAML file describes one complete pretraining run."""

from graphfm.config.load import load_recipe as load_recipe
from graphfm.config.load import recipe_names as recipe_names
from graphfm.config.load import shipped as shipped
from graphfm.config.recipe import ModelConfig as ModelConfig
from graphfm.config.recipe import Recipe as Recipe

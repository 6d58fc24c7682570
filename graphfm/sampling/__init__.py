"""The input of a step: bank of graphs, plan of visits, neighbor sampling, batch."""

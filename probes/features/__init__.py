"""The features of a network: what enters its last linear layer, and what enters each layer before it."""

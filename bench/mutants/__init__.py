"""Mutants of the pure modules: do their own unit tests notice?"""

"""Places: fields to cells of a grid, and cells with structures to one array. Pure.

``grid`` works from names alone, ``holes`` settles what is missing, ``outliers`` says which headers
to read, and ``combining`` stacks and extends.
"""

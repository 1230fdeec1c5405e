"""Networks over one timm backbone: PixelNet, RegionNet, their weights, a memory bank.

Imports the ground floor only.
"""

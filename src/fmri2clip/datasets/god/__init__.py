"""Generic Object Decoding, the data set of Horikawa and Kamitani.

Horikawa & Kamitani 2017, Nature Communications 8:15037. 1,200 training pictures (150 ImageNet
categories, 8 of each, shown once), 50 test pictures of 50 other categories, shown 35 times, and
imagery, which is not used here; five subjects.
"""

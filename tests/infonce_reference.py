"""Slow, obvious forms of the four losses of the InfoNCE reading: loops over images, regions and queries, float64."""

from __future__ import annotations

import math

import numpy as np
from region_reference import dice, softmax


def mean_over_images(per_image):
    """Mean over regions, then over the images that have any."""
    means = [sum(values) / len(values) for values in per_image if values]
    return sum(means) / len(means) if means else 0.0


def matched(match):
    return [[(j, q) for j, q in enumerate(row) if q >= 0] for row in match]


def mask_contrast(mask, target, match, temperature):
    images = []
    for b, pairs in enumerate(matched(match)):
        images.append([])
        for j, q in pairs:
            scores = np.array([dice(mask[b, i], target[b, j]) / temperature for i in range(mask.shape[1])])
            images[-1].append(-math.log(softmax(scores)[q]))
    return mean_over_images(images)


def feature_contrast(student, teacher, label, present, match, temperature):
    images = []
    others = [(a, n) for a in range(len(label)) for n in range(label.shape[1]) if present[a, n]]
    for b, pairs in enumerate(matched(match)):
        images.append([])
        for j, _ in pairs:
            similar = {n: student[b, j] @ teacher[n] / temperature for n in others}
            negative = [similar[n] for n in others if label[n] != label[b, j]]
            images[-1].append(-math.log(softmax(np.array([similar[b, j], *negative]))[0]))
    return mean_over_images(images)


def class_agreement(logits, target, match, no_object):
    images = []
    for b, pairs in enumerate(matched(match)):
        total, weight, taken = 0.0, 0.0, set()
        for j, q in pairs:
            prob = softmax(logits[b, q])
            total -= sum(target[b, j, k] * math.log(prob[k]) for k in range(target.shape[2]))
            weight += 1
            taken.add(q)
        for q in set(range(logits.shape[1])) - taken:
            total -= no_object * math.log(softmax(logits[b, q])[-1])
            weight += no_object
        images.append([total / weight] if pairs else [])
    return mean_over_images(images)


def semantic_agreement(student, teacher, classes, valid):
    images = []
    for b in range(len(student)):
        present = np.flatnonzero(classes[b])
        images.append([1 - dice(student[b, k][valid[b]], teacher[b, k][valid[b]]) for k in present])
    return mean_over_images(images)

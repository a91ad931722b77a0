"""Every rule of LRP a second time: its definition on a dense matrix, output by output, without innsight_py.

A rule gets one row: the input x ``(in,)``, the weights w ``(out, in)``, the bias b ``(out,)``, the relevance r of the
outputs ``(out,)``, and `linked`, which is True where an output is connected with an input, whatever the weight.
"""

from __future__ import annotations

import numpy as np


def above(v):
    return np.maximum(v, 0.0)


def below(v):
    return np.minimum(v, 0.0)


def hand_down(r, terms, bias, linked, what_of_bias, epsilon=0.0):
    """Share out the relevance of each output in proportion to its terms, of which the bias is one."""
    received = np.zeros(terms.shape[1])
    for j in range(len(r)):
        term, own = terms[j].copy(), bias[j]
        if what_of_bias == "zero":
            own = 0.0
        if what_of_bias == "share" and linked[j].any():
            term, own = term + own * linked[j] / linked[j].sum(), 0.0
        total = term.sum() + own
        if total != 0:
            received += term * r[j] / (total + epsilon * np.sign(total))
    return received


def simple(x, w, b, r, linked, bias="keep"):
    return hand_down(r, w * x, b, linked, bias)


def epsilon(x, w, b, r, linked, bias="keep", epsilon=0.001):
    return hand_down(r, w * x, b, linked, bias, epsilon)


def alpha_beta(x, w, b, r, linked, bias="keep", alpha=0.5):
    raising = hand_down(r, above(w * x), above(b), linked, bias)
    lowering = hand_down(r, below(w * x), below(b), linked, bias)
    return alpha * raising + (1 - alpha) * lowering


def z_plus(x, w, b, r, linked, bias="keep"):
    return hand_down(r, above(w * x), above(b), linked, bias)


def gamma(x, w, b, r, linked, bias="keep", gamma=0.25):
    received = np.zeros(len(x))
    for j in range(len(r)):
        z = w[j] @ x + b[j]
        if z == 0:
            continue
        agreeing = above if z > 0 else below
        terms, own = w[j] * x, b[j]
        terms, own = terms + gamma * agreeing(terms), own + gamma * agreeing(own)
        received += hand_down(r[j : j + 1], terms[None], np.array([own]), linked[j : j + 1], bias)
    return received


def z_box(x, w, b, r, linked, bias="keep", low=-1.0, high=1.0):
    """Compare inputs with bounds: each output is measured from the corner of the box where it is lowest."""
    return hand_down(r, w * x - above(w) * low - below(w) * high, 0 * b, linked, "keep")


def w_square(x, w, b, r, linked, bias="keep"):
    return hand_down(r, w**2, b**2, linked, bias)


def flat(x, w, b, r, linked, bias="keep"):
    return hand_down(r, linked.astype(float), 0 * b, linked, "keep")


def proportional(x, w, b, r, linked, bias="keep"):
    return hand_down(r, w * x, 0 * b, linked, "keep")


def equal(x, w, b, r, linked):
    return hand_down(r, linked.astype(float), 0 * b, linked, "keep")


def gradient(x, w, b, r, linked):
    return w.T @ r


def pass_(x, w, b, r, linked):
    return linked.T.astype(float) @ r


def winner(x, w, b, r, linked):
    received = np.zeros(len(x))
    for j in range(len(r)):
        largest = max((x[i] for i in np.flatnonzero(linked[j])), default=None)
        first = next((i for i in np.flatnonzero(linked[j]) if x[i] == largest), None)
        if first is not None:
            received[first] += r[j]
    return received

"""Nearest points of the E8P lattice code and of its residual forms, and their feedback panel.

In code units an E8P point is ``s * a + t``: ``a`` one of 256 vectors of positive half-integers
(see `lplr.quantizers.lattice`), ``s`` signs that make the coordinate sum of ``s * a`` even, and
``t`` = 1/4 or -1/4 in every entry. The code word is ``(t < 0) << 15 | index of a << 7 | signs``;
bit i of the signs is set where entry i < 7 is negative, and the parity gives the eighth.

The search is exact and needs no list of candidates. For one t let y = x - t, and sort |y|
downwards, y1 >= ... >= y8. The score to maximise is ``2 <s a, y> - |a|^2``. The larger entries of
a belong to the larger |y|; if the signs of y have the wrong parity, the cheapest flip is that of
y8, where a = 1/2. So a prefix sum gives the best score of every family of vectors a that is closed
under permutation. With S the sum of the |y|, less 2 y8 for a flip, and P_j = y1 + ... + yj:

    j times 3/2:    S + 2 P_j - (2 + 2 j), j <= 4        one 5/2:    S + 4 y1 - 8
    5/2 and 3/2:    S + 4 y1 + 2 y2 - 10

The 29 vectors of squared norm 12 are not closed under permutation; the search visits them where a
bound on their score reaches the best of the other scores. Everything is in float64, in which these
sums of a few float32 numbers are exact for data of ordinary range. Ties go to the lowest code word.

Loops run over the groups of a chunk, on flat scratch arrays of fixed size, so that they vectorise.
"""

import numpy as np

from lplr.kernels.jit import kernel

_CHUNK = 32  # groups of eight entries handled together; the scratch arrays stay in the L1 cache


@kernel
def _sort(a, b, c, d, e, f, g, h):
    """Eight numbers downwards, by Batcher's odd-even merge network of 19 comparators."""
    a, b, c, d = max(a, b), min(a, b), max(c, d), min(c, d)
    e, f, g, h = max(e, f), min(e, f), max(g, h), min(g, h)
    a, c, b, d = max(a, c), min(a, c), max(b, d), min(b, d)
    e, g, f, h = max(e, g), min(e, g), max(f, h), min(f, h)
    b, c, f, g = max(b, c), min(b, c), max(f, g), min(f, g)
    a, e, b, f = max(a, e), min(a, e), max(b, f), min(b, f)
    c, g, d, h = max(c, g), min(c, g), max(d, h), min(d, h)
    c, e, d, f = max(c, e), min(c, e), max(d, f), min(d, f)
    b, c, d, e, f, g = max(b, c), min(b, c), max(d, e), min(d, e), max(f, g), min(f, g)
    return a, b, c, d, e, f, g, h


@kernel
def _score_families(x, t, plan):
    """The best of the families closed under permutation, for each group and one shift t = ±1/4.

    ``x`` is float64 (8 * _CHUNK,), entry-major. Seven numbers for each group are written to
    ``plan``, float64 (7 * _CHUNK,): the score; how many entries of a exceed 1/2; the least |y|
    among them; the |y| where a is 5/2, or infinity; 1 for a flip of a sign, else 0; the least |y|;
    a bound on the score of the vectors of squared norm 12.
    """
    for g in range(_CHUNK):
        v0, v1, v2 = x[g] - t, x[_CHUNK + g] - t, x[2 * _CHUNK + g] - t
        v3, v4, v5 = x[3 * _CHUNK + g] - t, x[4 * _CHUNK + g] - t, x[5 * _CHUNK + g] - t
        v6, v7 = x[6 * _CHUNK + g] - t, x[7 * _CHUNK + g] - t
        # |x - t - s a|^2 = |x|^2 + 1/2 - (2 <s a, x - t> - |a|^2 + 2 t sum(x)): the last term
        # makes the scores of the two shifts comparable.
        offset = 2.0 * t * (((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7)) + 8.0 * t)
        odd = (v0 < 0) ^ (v1 < 0) ^ (v2 < 0) ^ (v3 < 0) ^ (v4 < 0) ^ (v5 < 0) ^ (v6 < 0) ^ (v7 < 0)
        a0, a1, a2, a3 = abs(v0), abs(v1), abs(v2), abs(v3)
        a4, a5, a6, a7 = abs(v4), abs(v5), abs(v6), abs(v7)
        y1, y2, y3, y4, y5, y6, y7, y8 = _sort(a0, a1, a2, a3, a4, a5, a6, a7)
        p2 = y1 + y2
        p4 = p2 + (y3 + y4)
        total = (p4 + (y5 + y6)) + (y7 + y8)
        # The number of minus signs has the parity of the coordinate sum of a. The sum is even for
        # an even number of entries 3/2, however many entries are 5/2.
        even_flip = 1.0 if odd else 0.0
        odd_flip = 1.0 - even_flip
        even = total - 2.0 * even_flip * y8
        uneven = total - 2.0 * odd_flip * y8
        best, count, least, largest, flip = even - 2.0, 0.0, np.inf, np.inf, even_flip
        score = uneven + 2.0 * y1 - 4.0
        if score > best:
            best, count, least, flip = score, 1.0, y1, odd_flip
        score = even + 2.0 * p2 - 6.0
        if score > best:
            best, count, least, flip = score, 2.0, y2, even_flip
        score = uneven + 2.0 * (p2 + y3) - 8.0
        if score > best:
            best, count, least, flip = score, 3.0, y3, odd_flip
        score = even + 2.0 * p4 - 10.0
        if score > best:
            best, count, least, flip = score, 4.0, y4, even_flip
        score = even + 4.0 * y1 - 8.0
        if score > best:
            best, count, least, largest, flip = score, 1.0, y1, y1, even_flip
        score = uneven + 2.0 * (p2 + y1) - 10.0
        if score > best:
            best, count, least, largest, flip = score, 2.0, y2, y1, odd_flip
        # The 29 vectors have their three entries 1/2 at {0, any two}, at {1, 2, any} or at
        # {1, 3, one of 4, 5, 6}.
        a456 = min(min(a4, a5), a6)
        halves = max(y6, a0) + (y7 + y8)
        halves = min(halves, a1 + a2 + min(min(a3, a7), a456))
        halves = min(halves, a1 + a3 + a456)
        plan[g], plan[_CHUNK + g] = best + offset, count
        plan[2 * _CHUNK + g], plan[3 * _CHUNK + g] = least, largest
        plan[4 * _CHUNK + g], plan[5 * _CHUNK + g] = flip, y8
        plan[6 * _CHUNK + g] = uneven + 2.0 * (total - halves) - 12.0 + offset


@kernel
def _place(x, plans, word):
    """Turn the better of the plans of both shifts into positions and signs of a code word.

    ``word``, int64 (_CHUNK,), is written: ``shift << 18 | family << 15 | positions << 7 | signs``.
    Each entry above 1/2 sets its bit of ``positions``. The family is 0 if none of them is 5/2, 1 if
    the first one is, and 2 if the second one is. Among equal |y|, the earlier entry gets the larger
    value, and a flip goes where it makes the lowest code word.
    """
    plus, minus = plans[0], plans[1]
    for g in range(_CHUNK):
        shifted = minus[g] > plus[g]
        t = -0.25 if shifted else 0.25
        count = minus[_CHUNK + g] if shifted else plus[_CHUNK + g]
        least = minus[2 * _CHUNK + g] if shifted else plus[2 * _CHUNK + g]
        largest = minus[3 * _CHUNK + g] if shifted else plus[3 * _CHUNK + g]
        flip = minus[4 * _CHUNK + g] if shifted else plus[4 * _CHUNK + g]
        y8 = minus[5 * _CHUNK + g] if shifted else plus[5 * _CHUNK + g]
        for i in range(8):
            count -= 1.0 if abs(x[i * _CHUNK + g] - t) > least else 0.0
        positions = signs = family = 0
        change = 256  # what the flip adds to the signs: +-(1 << i), or 0 for entry 7
        for i in range(8):
            v = x[i * _CHUNK + g] - t
            y = abs(v)
            bit = 1 << i
            tie = (y == least) & (count > 0.0)
            count -= 1.0 if tie else 0.0
            large = tie | (y > least)
            first = 1 if positions == 0 else 2
            family = first if (family == 0) & (y == largest) else family
            positions += bit if large else 0
            step = 0 if i == 7 else (-bit if v < 0 else bit)
            change = min(change, step) if (y == y8) & (not large) else change
            signs += bit if (v < 0) & (i < 7) else 0
        change = change if flip > 0.0 else 0
        head = (262144 if shifted else 0) + (family << 15)
        word[g] = head + (positions << 7) + signs + change


@kernel
def _search_far(x, g, shift, score, code, y):
    """Score and code word of the best vector of squared norm 12, or the given ones if better.

    The vectors are the first 29 in lexicographic order of the positions i < j < k of their three
    entries 1/2 among entries 3/2; their number of minus signs is odd.
    """
    t = -0.25 if shift else 0.25
    signs, minus, total, offset = 0, 0, 0.0, 0.0
    for i in range(8):
        v = x[i * _CHUNK + g] - t
        y[i] = abs(v)
        total += y[i]
        offset += 2.0 * t * x[i * _CHUNK + g]
        if v < 0:
            minus += 1
            signs += 1 << i
    rank = 0
    for i in range(2):
        for j in range(i + 1, 7):
            for k in range(j + 1, 8):
                if rank == 29:
                    break
                s = 2.0 * (1.5 * total - (y[i] + y[j] + y[k])) - 12.0 + offset
                if s >= score:
                    change = 0
                    if minus % 2 == 0:
                        cost = np.inf
                        for e in range(8):
                            c = y[e] if e in (i, j, k) else 3.0 * y[e]
                            step = 0 if e == 7 else (-(1 << e) if signs >> e & 1 else 1 << e)
                            if c < cost or (c == cost and step < change):
                                cost, change = c, step
                        s -= 2.0 * cost
                    word = (shift << 15) + ((227 + rank) << 7) + (signs & 127) + change
                    if s > score or (s == score and word < code):
                        score, code = s, word
                rank += 1
    return score, code


@kernel
def _nearest_e8p(x, index, plans, word):
    """Code words of the E8P points nearest to the groups of ``x``, into ``word``."""
    y = np.empty(8)
    for shift in range(2):
        _score_families(x, 0.25 - 0.5 * shift, plans[shift])
    _place(x, plans, word)
    for g in range(_CHUNK):
        w = word[g]
        code = (w >> 18 << 15) + (np.int64(index[w >> 7 & 1023]) << 7) + (w & 127)
        score = max(plans[0, g], plans[1, g])
        for shift in range(2):
            if plans[shift, 6 * _CHUNK + g] >= score:
                score, code = _search_far(x, g, shift, score, code, y)
        word[g] = code


@kernel
def _nearest_root(x, word):
    """Code words of the points nearest to the groups of ``x`` among 0, E8 roots and 15 +-2 e_i.

    The order of the 256 points: zero; +-e_i +-e_j, ``1 + 4 pair + signs``, pairs i < j in
    lexicographic order; (+-1/2)^8 with an even number of minus signs, ``113 + signs`` of the
    first seven; +-2 e_i, ``241 + 2 i + sign``, without -2 e_7. Ties go to the lowest.
    """
    for g in range(_CHUNK):
        z1 = z2 = -1.0  # the largest two |x|, in the earliest entries; i1 and i2 say where
        i1 = i2 = n1 = n2 = 0
        total, low, minus, signs = 0.0, np.inf, 0, 0
        for i in range(8):
            v = x[i * _CHUNK + g]
            y = abs(v)
            n = 1 if v < 0 else 0
            total += y
            minus ^= n
            signs += n << i
            low = min(low, y)
            if y > z1:
                z1, z2, i1, i2, n1, n2 = y, z1, i, i1, n, n1
            elif y > z2:
                z2, i2, n2 = y, i, n
        change = 256
        for i in range(8):
            v = x[i * _CHUNK + g]
            step = 0 if i == 7 else (-(1 << i) if v < 0 else 1 << i)
            change = min(change, step) if abs(v) == low else change
        best, code = 0.0, 0
        score = 2.0 * (z1 + z2) - 2.0
        if score > best:
            i, j = min(i1, i2), max(i1, i2)
            pair = i * (15 - i) // 2 + j - i - 1
            tail = n1 + 2 * n2 if i1 < i2 else n2 + 2 * n1
            best, code = score, 1 + 4 * pair + tail
        score = total - 2.0 - (2.0 * low if minus else 0.0)
        if score > best:
            best, code = score, 113 + (signs & 127) + (change if minus else 0)
        score = 4.0 * z1 - 4.0
        # Where the absent -2 e_7 would win, the next best of its kind scores less than a pair.
        if (score > best) & (2 * i1 + n1 < 15):
            best, code = score, 241 + 2 * i1 + n1
        word[g] = code


@kernel
def _quantize(x, step, index, points, tail, plans, word, first):
    """Code words of a chunk; overwrites ``x`` where there is a second stage."""
    for stage in range(1 if len(tail) == 1 else 2):
        if stage == 1:
            for g in range(_CHUNK):
                first[g] = word[g]
                point = points[word[g]]
                for i in range(8):
                    x[i * _CHUNK + g] = (x[i * _CHUNK + g] - 0.25 * point[i]) / step
        if stage == 1 and len(tail) == 256:
            _nearest_root(x, word)
        else:
            _nearest_e8p(x, index, plans, word)
    if len(tail) > 1:
        for g in range(_CHUNK):
            word[g] = word[g] << 16 | first[g]


@kernel
def _distance(y, step, points, tail, code):
    """Squared distance of eight entries from the point of a code word of two stages."""
    first, second = points[code & 65535], tail[code >> 16]
    total = 0.0
    for i in range(8):
        total += (y[i] - 0.25 * (first[i] + step * second[i])) ** 2
    return total


@kernel
def feedback_panel(target, base, coeff, scale, step, index, points, tail, error, codes):
    """Quantize the rows of a panel from last to first, each with the errors of those below it.

    The loop is that of `lplr.kernels.feedback.feedback_panel`, for groups of eight consecutive
    entries of a row::

        y = target[k] + sum over j > k of coeff[j, k] * error[j]
        codes[k, g] = code word near (y / scale[k])[8 g : 8 g + 8]
        error[k] = base[k] - scale[k] * points of codes[k]

    With one stage, the point is the nearest one. With two stages each one finds its nearest point,
    but their sum need not be the nearest sum. So the code word that ``codes`` holds (0 at first)
    stays if its point is nearer, and coordinate descent never increases the loss.

    ``target``, ``base`` and ``error``, which is written, are float32 (p, 8 m). Only the part below
    the diagonal of ``coeff``, float32 (p, p), is read. No ``scale``, float32 (p,), is negative; 0
    gives every group of the row the code word of 0. ``step``, float32, is the scale of the second
    stage. ``index``, uint8 (1024,), leads from family and positions of large entries to the
    absolute vector. ``points``, int8 (65536, 8), are E8P points times 4, and so are those of the
    second stage in ``tail``: a single row for no second stage, 256 E8 roots and other points, or
    E8P again. ``codes``, uint32 (p, m), with the first stage in the low 16 bits, are written, and
    read for two stages.
    """
    p, n = target.shape
    width = 8 * _CHUNK
    y = np.zeros(width, np.float32)
    e = np.zeros((p, width), np.float32)  # the chunk's errors: contiguous and always in cache
    chunk, plans = np.empty(width), np.empty((2, 7 * _CHUNK))
    word, first = np.empty(_CHUNK, np.int64), np.empty(_CHUNK, np.int64)
    quarter, fine = np.float32(0.25), np.float32(0.25) * step
    for start in range(0, n, width):
        stop = min(start + width, n)
        for k in range(p - 1, -1, -1):
            y[: stop - start] = target[k, start:stop]
            y[stop - start :] = 0
            j = k + 1
            while j + 4 <= p:  # four at a time: y is loaded and stored a quarter as often
                c0, c1, c2, c3 = coeff[j, k], coeff[j + 1, k], coeff[j + 2, k], coeff[j + 3, k]
                e0, e1, e2, e3 = e[j], e[j + 1], e[j + 2], e[j + 3]
                for i in range(width):
                    y[i] += (c0 * e0[i] + c1 * e1[i]) + (c2 * e2[i] + c3 * e3[i])
                j += 4
            while j < p:
                c0, e0 = coeff[j, k], e[j]
                for i in range(width):
                    y[i] += c0 * e0[i]
                j += 1
            s = scale[k]
            inverse = np.float32(1.0) / s if s > 0 else np.float32(0.0)
            for i in range(width):
                y[i] *= inverse
            for i in range(8):
                for g in range(_CHUNK):
                    chunk[i * _CHUNK + g] = y[8 * g + i]
            _quantize(chunk, step, index, points, tail, plans, word, first)
            ek, b, out = e[k], base[k, start:stop], error[k, start:stop]
            for g in range((stop - start) // 8):
                code, held = word[g], np.int64(codes[k, start // 8 + g])
                if len(tail) > 1:
                    part = y[8 * g : 8 * g + 8]
                    new = _distance(part, step, points, tail, code)
                    code = held if _distance(part, step, points, tail, held) < new else code
                codes[k, start // 8 + g] = code
                point, second = points[code & 65535], tail[code >> 16]
                for i in range(8):
                    ek[8 * g + i] = quarter * np.float32(point[i]) + fine * np.float32(second[i])
            for i in range(stop - start):
                ek[i] = b[i] - s * ek[i]
                out[i] = ek[i]

"""Sizes of the steps of an epoch. Imports no torch."""


def step_sizes(visits: int, batch_size: int) -> list[int]:
    """Return the samples of each step over `visits` visits; a lone last sample joins the step before.

    `fit_loop.join_lone_sample` states why.
    """
    sizes, rest = [batch_size] * (visits // batch_size), visits % batch_size
    if rest == 1 and sizes:
        sizes[-1] += 1
    elif rest:
        sizes.append(rest)
    return sizes

"""What methods are built from.

- `method`: the interface `Method` with what it reads and returns. `method_config`: settings. `method_info`: metadata.
  `literature`: metadata from `references.bib` and `published.toml`. `variants`: names with settings.
- `score_methods`: scores of the observer's record, and `difficulty`, their formulas. `feature_methods`: choices by the
  observer's features. `selection`: choice of a budget of images by scores, at random, from a window.
- `teacher_methods`: methods that run networks. `teacher_losses`: their losses on images. `patches`: crops chosen by
  these losses. `mosaics`: whole images tiled into one. `source_ranking`: rankings of the sources of mosaics.
- `recovery_methods`: SRe2L's family, which optimises images. `recovery_starts`: the images it starts from.
"""

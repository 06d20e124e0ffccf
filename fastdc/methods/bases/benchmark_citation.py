"""Citation of the paper whose benchmark fastdc implements, for the methods that it introduced or measured first."""

TITLE = "Rethinking Large-scale Dataset Compression: Shifting Focus From Labels to Images"

BIBTEX = """@article{xiao2025rethinking,
  title={Rethinking Large-scale Dataset Compression: Shifting Focus From Labels to Images},
  author={Xiao, Lingao and Liu, Songhua and He, Yang and Wang, Xinchao},
  journal={arXiv preprint arXiv:2502.06434},
  year={2025}
}"""

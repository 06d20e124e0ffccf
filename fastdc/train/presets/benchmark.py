"""Hard and soft labels of the benchmark (Xiao et al., arXiv 2502.06434)."""

from fastdc.train.protocols import Preset, Protocol, Recipe

BENCHMARK = "Xiao et al., arXiv 2502.06434; ArmandXiao/Rethinking-Dataset-Compression 91d1ef0"
OWN_RULE = ("the batch rule is fastdc's own",)

PROTOCOLS = (
    Preset(
        Protocol(base="hard"),
        Recipe("hard labels of the benchmark", f"{BENCHMARK}, standard_hard_config.yaml"),
    ),
    Preset(
        Protocol(base="hard-small", batch_size="small"),
        Recipe("hard, with batch N/10 for few classes", BENCHMARK, notes=OWN_RULE),
    ),
    Preset(
        Protocol(base="hard-sgd", optimizer="sgd", lr=0.1, weight_decay=1e-4),
        Recipe("hard, with the benchmark's SGD setting", f"{BENCHMARK}, --sgd-setting"),
    ),
    Preset(
        Protocol(base="soft", labels="online", mix="cutmix"),
        Recipe("soft labels of the benchmark", f"{BENCHMARK}, standard_soft_config.yaml"),
    ),
    Preset(
        Protocol(base="soft-small", batch_size="small", labels="online", mix="cutmix"),
        Recipe("soft, with batch N/10 for few classes", BENCHMARK, notes=OWN_RULE),
    ),
)

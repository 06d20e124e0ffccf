"""The sections of the check in their order, each with its time limit and its claims. Needs only Python itself."""

from gpu_sections.claims import Claim
from gpu_sections.running import Section

POINTS = "points"
"""Unit of differences of accuracy in percent."""

SECTIONS = (
    Section(
        "environment",
        "gpu_sections.ceilings:check",
        60,
        (Claim("device", "torch finds the device", 1, "device", least=True, cpu=1),),
        stops=True,
    ),
    Section(
        "tests",
        "gpu_sections.unit_tests:check",
        120,
        (
            Claim("tests-failed", "failed tests of tests/gpu", 0, "tests", cpu=0),
            Claim("tests-run", "tests of tests/gpu that ran", 1, "tests", least=True, cpu=1),
        ),
    ),
    Section(
        "images",
        "gpu_sections.photos:check",
        90,
        (
            Claim(
                "decode-rate",
                "JPEGs of 224 px decoded once, onto the device, per CPU core",
                200,
                "images/s",
                least=True,
                cpu=20,
            ),
        ),
    ),
    Section(
        "engines",
        "gpu_sections.views:check",
        90,
        (
            Claim("view-order", "samples in another order than the resident engine's", 0, "samples", cpu=0),
            Claim("view-levels", "largest difference of a level from the resident engine's", 1, "level", cpu=1),
            Claim("kernel-levels", "the same for crops drawn by Triton's kernel", 0, "levels"),
        ),
    ),
    Section(
        "waits",
        "gpu_sections.waits:check",
        60,
        (
            Claim("waits-step", "waits for the device per training step, the read at an epoch's end aside", 0, "waits"),
            Claim("waits-validation", "waits for the device in a validation of 10,000 images", 1, "wait"),
        ),
        cuda=True,
    ),
    Section(
        "memory",
        "gpu_sections.faults:check_memory",
        60,
        (
            Claim("memory-named", "a cell that runs out of memory is reported as such", 1, "", least=True, cpu=1),
            Claim("memory-next", "accuracy of the next cell in the same process", 50, "%", least=True, cpu=50),
        ),
    ),
    Section(
        "errors",
        "gpu_sections.faults:check_errors",
        45,
        (
            Claim("error-diverged", "a loss that is not finite counts as diverged", 1, "", least=True, cpu=1),
            Claim("error-lost", "a failed assertion of a kernel counts as a lost device", 1, "", least=True),
        ),
    ),
    Section(
        "libraries",
        "gpu_sections.faults:check_libraries",
        30,
        (Claim("error-cublas", "a cuBLAS error for lack of memory is reported as such", 1, "", least=True),),
        cuda=True,
    ),
    Section(
        "accuracy",
        "gpu_sections.accuracies:check",
        120,
        (
            Claim("accuracy-cpu", "fp32: distance of the mean accuracy from the CPU's", 1.5, POINTS),
            Claim("accuracy-bf16", "bf16: distance of the mean accuracy from fp32's", 1.5, POINTS, cpu=1.5),
            Claim("accuracy-tf32", "tf32: distance of the mean accuracy from fp32's", 1.5, POINTS),
            Claim("accuracy-fp16", "fp16: distance of the mean accuracy from fp32's", 1.5, POINTS),
        ),
    ),
    Section(
        "spread",
        "gpu_sections.accuracies:check_spread",
        45,
        (Claim("spread", "range of accuracies of one seed run three times", 1.5, POINTS, cpu=0),),
    ),
    Section(
        "resume",
        "gpu_sections.resuming:check",
        60,
        (Claim("resume", "accuracy of a killed and continued cell, distance from one left alone", 1.5, POINTS, cpu=0),),
    ),
    Section(
        "profiles",
        "gpu_sections.profiles:check",
        120,
        (
            Claim("idle", "ResNet-18, 224 px, bf16: share of the time in which the GPU idles", 0.1, ""),
            Claim("fed", "the same: rate, as a share of the rate on one batch that stays on the device", 0.9, "", True),
            Claim("bf16-gain", "the same: rate, as a multiple of fp32's", 2, "times", least=True),
            Claim("rate-h200", "the same: rate on an H200", 10_000, "images/s", least=True),
        ),
    ),
    Section(
        "paths",
        "gpu_sections.paths:check",
        90,
        (
            Claim("graph-used", "ConvNet, 28 px: its steps are replayed as CUDA graphs", 1, "", least=True),
            Claim("graph-loss", "the same in fp32: first epoch's loss, relative distance from eager's", 1e-3, ""),
            Claim("graph-gain", "the same in bf16: rate, as a multiple of eager's", 1.5, "times", least=True),
            Claim(
                "kernel-gain", "the same: rate, as a multiple of that with views by products", 1, "times", least=True
            ),
        ),
    ),
    Section(
        "compiled",
        "gpu_sections.paths:check_compiled",
        90,
        (Claim("compiled-loss", "compiled ConvNet: first epoch's loss, relative distance from eager's", 1e-2, ""),),
        cuda=True,
    ),
    Section(
        "lanes",
        "gpu_sections.lanes:check",
        60,
        (
            Claim(
                "lanes-gain",
                "ConvNet, 28 px: rate of four runs on streams of their own, as a multiple of one's",
                1.5,
                "times",
                least=True,
            ),
            Claim("lanes-loss", "the same in fp32: first epoch's loss, relative distance from alone", 1e-3, "", cpu=0),
        ),
    ),
    Section(
        "together",
        "gpu_sections.together:check",
        60,
        (
            Claim("streams-gain", "four cells at once in one process: gain over one by one", 1, "times", least=True),
            Claim("processes-gain", "four cells at once in four processes: the same", 1, "times", least=True),
        ),
    ),
)

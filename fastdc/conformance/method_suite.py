"""Conformance suite of methods: small subsets of a generated training set."""

import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from fastdc.beton import BetonFile, load_manifest, verify_beton
from fastdc.beton.hints import METHOD, tile_crop
from fastdc.common.errors import ConfigError, MethodError
from fastdc.common.keys import content_key
from fastdc.conformance.data import CLASSES, PER_CLASS, SIDE, write_set
from fastdc.conformance.suite import Suite, expect
from fastdc.methods import get_method, parse_variant
from fastdc.observe import ObserverConfig
from fastdc.subsets.compress import compress_beton

IPC = 2
TOO_MANY = PER_CLASS["train"] + 1
OBSERVER = ObserverConfig(arch="convnet1_w4", epochs=30, batch_size=16, lr=0.03, image_size=SIDE, threads=1)


class MethodSuite(Suite):
    """Suite of methods. Without settings in its name, a method runs under its `quick_settings`."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, folder)
        method, settings = parse_variant(name)
        self.method = get_method(method)
        self.settings = settings or dict(self.method.quick_settings)
        self.config = self.method.configure(self.settings)

    def info_is_complete(self) -> None:
        """Check the metadata that lists, tables and citations show."""
        info = self.method.info
        expect(bool(info.title and type(self.method).__doc__), info.title, "a title, and a docstring of the class")
        if info.paper:
            cited = info.bibtex.startswith("@") and str(info.year) in info.bibtex
            expect(cited, info.bibtex[:40], f"a BibTeX entry of {info.year} for the paper")

    def settings_are_frozen(self) -> None:
        """Check that settings cannot change under a subset's key, and that a wrong one is an error."""
        field = next(iter(type(self.config).model_fields))
        try:
            setattr(self.config, field, None)
        except ValidationError:
            pass
        else:
            expect(False, f"a config whose {field} was set", "frozen settings, as subclasses of MethodConfig have")
        _expect_error(ConfigError, lambda: self.method.configure({"no_such_setting": 1}), "for an unknown setting")

    def identity_is_stable(self) -> None:
        """Check that equal settings have one key, which can be stored."""
        values = self.config.model_dump(mode="json", exclude_defaults=True)
        again = self.method.configure({name: values[name] for name in reversed(values)})
        expect(again == self.config, again, f"the settings that were dumped: {self.config}")
        identity = self.config.identity()
        expect(content_key(again.identity()) == content_key(identity), "two keys of equal settings", "one")
        expect(json.loads(json.dumps(identity)) == identity, identity, "plain data, as JSON keeps it")

    def budget_is_respected(self) -> None:
        """Check the number of stored images of every class."""
        manifest = load_manifest(self._subset)
        if self.method.info.whole_set:
            expect(manifest.counts == load_manifest(self._train).counts, manifest.counts, "the whole training set")
            return
        if self.method.class_balanced(self.config):
            expect(set(manifest.counts) == {IPC}, manifest.counts, f"{IPC} images of every class")
        expect(sum(manifest.counts) == IPC * len(CLASSES), manifest.counts, f"{IPC * len(CLASSES)} images")

    def subset_repeats_bit_by_bit(self) -> None:
        """Check that one seed gives one subset, in another call."""
        again = self._compress("again", seed=0)
        expect(again.read_bytes() == self._subset.read_bytes(), "other bytes in a second call", "equal bytes of a seed")

    def seed_matters_only_if_declared(self) -> None:
        """Check that a method with `stochastic=False` ignores the seed, which its key leaves out."""
        if not self.method.stochastic(self.config):
            other = self._compress("seed", seed=1)
            expect(other.read_bytes() == self._subset.read_bytes(), "other bytes of another seed", "stochastic=True")

    def hints_are_valid(self) -> None:
        """Check that training understands the hints."""
        rule = tile_crop(METHOD, load_manifest(self._subset).hints)
        planned = self.method.training_crop(self.config)
        expect(rule.views == planned.views, f"{rule.views} views in the hints", f"training_crop's {planned.views}")

    def stored_beton_verifies(self) -> None:
        """Check every stored image; one of another size than the stored one is refused earlier, when it is stored."""
        problems = verify_beton(self._subset, deep=True)
        expect(not problems, f"{len(problems)} problems, first {problems[:1]}", "a sound beton")
        with BetonFile(self._subset) as beton:
            expect(len(beton) == sum(load_manifest(self._subset).counts), f"{len(beton)} images", "the manifest's")

    def impossible_budgets_are_errors(self) -> None:
        """Check that a budget beyond the smallest class is refused, or that the images are made."""
        _expect_error(MethodError, lambda: self._compress("none", ipc=0), "for ipc=0")
        try:
            made = load_manifest(self._compress("many", ipc=TOO_MANY))
        except MethodError:
            return
        enough = self.method.info.whole_set or sum(made.counts) == TOO_MANY * len(CLASSES)
        expect(enough, made.counts, f"a MethodError, or {TOO_MANY} images of every class")

    @cached_property
    def _train(self) -> Path:
        return write_set(self.folder, "train")

    @cached_property
    def _subset(self) -> Path:
        return self._compress("subset", seed=0)

    def _compress(self, name: str, ipc: int = IPC, seed: int = 0) -> Path:
        out = self.folder / f"{name}.beton"
        compress_beton(
            self.method.info.name,
            self._train,
            out,
            ipc=ipc,
            seed=seed,
            image_size=SIDE,
            settings=self.settings,
            workdir=self.folder / "work",
            observer=OBSERVER,
            threads=1,
        )
        return out


def _expect_error(kind: type[Exception], call: Callable[[], object], when: str) -> None:
    try:
        call()
    except kind:
        return
    expect(False, "no error", f"a {kind.__name__} {when}")

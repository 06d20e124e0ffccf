"""Optimise images against frozen networks: the engine that the distillation methods of SRe2L's family share.

`recipe` and `batches` hold plain data and import no torch; `engine.recover` runs them. A method declares a `Recipe` and
its differences from SRe2L, see `fastdc.methods.bases.recovery_methods`.
"""

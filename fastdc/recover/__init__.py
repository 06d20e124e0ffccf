"""Optimise images against frozen networks: the engine that the distillation methods of SRe2L's family share.

`recovery_recipe` and `finished_batches` import no torch; `engine.recover` runs a `RecoverJob`. A method declares a
`Recipe` and its differences from SRe2L, see `fastdc.methods.bases.recovery_methods`.
"""

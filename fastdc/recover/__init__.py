"""Images optimised against frozen networks: the engine that the distillation methods share (SRe2L's family).

`recipe` and `batches` are plain data and import no torch; `engine.recover` runs them. A method declares a `Recipe` and
what differs from SRe2L, see `fastdc.methods.recovering`.
"""

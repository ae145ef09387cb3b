//! The model to QEMU: arguments, spawning, QMP.

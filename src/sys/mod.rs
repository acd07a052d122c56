//! Every `unsafe` block and FFI call, behind safe functions.

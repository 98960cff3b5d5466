//! Tables follow.

//! The hub: tasks, steps and verdicts become work, reviews and rejections.

//! What heph knows of compilers.

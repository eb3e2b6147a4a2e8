//! The word that somebody may have meant.

/// The candidate that is nearest to `written`, if one is near: a letter in every three may be wrong.
pub(super) fn nearest<'a>(written: &str, candidates: &[&'a str]) -> Option<&'a str> {
    // All our keys are much shorter, and the distance to a very long text takes seconds.
    if written.len() > 100 {
        return None;
    }
    let plain = |word: &str| word.to_lowercase().replace('_', "-");
    let written = plain(written);
    let distance = |candidate: &str| strsim::damerau_levenshtein(&written, candidate);
    let best = candidates.iter().copied().min_by_key(|candidate| distance(candidate))?;
    (distance(best) <= best.chars().count().div_ceil(3)).then_some(best)
}

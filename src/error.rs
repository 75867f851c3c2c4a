//! What a failure is worth to whoever started the program, and the words that help them out of it.
//!
//! Every room has its own error enum; this file knows none of them.

/// Exit codes of the binary: the contract of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    /// Failed at run time.
    Failed = 1,
    /// Wrong command line or configuration.
    Usage = 2,
    /// The model is not in the cache, or not usable offline.
    ModelUnavailable = 3,
    /// Verification found a fault.
    VerificationFailed = 4,
}

/// The candidates most like `word`, best first, at most `limit`; nothing that is not like it at all.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>, limit: usize) -> Vec<&'a str> {
    /// Below this Jaro-Winkler similarity two words share little but letters; `modle` and `model` have 0.93.
    const ALIKE: f64 = 0.7;
    let mut scored: Vec<(f64, &str)> = candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(score, _)| *score >= ALIKE)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(limit).map(|(_, candidate)| candidate).collect()
}

/// `; did you mean `x`?` of the candidate most like `word`, or nothing.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates, 1).first().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_the_typo_and_nothing_far() {
        assert_eq!(nearest("modle", ["model", "listen", "cache"], 3), ["model"]);
        assert!(nearest("zzz", ["model", "listen"], 3).is_empty());
        assert_eq!(did_you_mean("modle", ["model"]), "; did you mean `model`?");
        assert_eq!(did_you_mean("zzz", ["model"]), "");
    }
}

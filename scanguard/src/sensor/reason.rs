//! The messages of the kernel and of aya about errors.

use aya::programs::ProgramError;

/// How many characters of a message are shown.
const MAX_REASON: usize = 600;

/// The chain of causes in one line.
pub(super) fn shorten(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    let text = chain.map(ToString::to_string).collect::<Vec<_>>().join(": ");

    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // The end of the verifier's log has the reason.
    let skipped = line.chars().count().saturating_sub(MAX_REASON);
    let dots = if skipped == 0 { "" } else { "... " };
    format!("{dots}{}", line.chars().skip(skipped).collect::<String>())
}

/// The last error of the chain of causes.
pub(super) fn words(error: &ProgramError) -> String {
    std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source())
        .last()
        .map_or_else(String::new, ToString::to_string)
}

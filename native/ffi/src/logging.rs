//! Where the native log goes: standard error, as JSON lines or for people.

use base::{Error, Result};
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogConfig {
    format: Format,
    level: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Json,
    Console,
}

/// Start the log: `{"format": "json"|"console", "level": "info"}`. Once per process.
pub fn start(config: &[u8]) -> Result<()> {
    let config: LogConfig = serde_json::from_slice(config).map_err(|error| bad(&error))?;
    let filter = EnvFilter::try_new(with_quiet_dependencies(&config.level)).map_err(|error| bad(&error))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.format {
        Format::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
        Format::Console => builder.with_ansi(false).try_init(),
    }
    .map_err(|_| Error::namespace(libc::EALREADY, "the native log was started before"))
}

/// Crate raft says in its own words what openraft reports many times over. A rule for openraft in `level` stays.
fn with_quiet_dependencies(level: &str) -> String {
    if level.contains("openraft") { level.to_string() } else { format!("{level},openraft=off") }
}

fn bad(why: &dyn std::fmt::Display) -> Error {
    Error::namespace(libc::EINVAL, format!("the log configuration is refused: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openraft_is_quiet_unless_asked_for() {
        assert_eq!(with_quiet_dependencies("info"), "info,openraft=off");
        assert_eq!(with_quiet_dependencies("info,openraft=debug"), "info,openraft=debug");
    }

    #[test]
    fn a_wrong_format_is_refused_in_one_sentence() {
        let error = start(br#"{"format": "xml", "level": "info"}"#).unwrap_err();
        assert!(error.message.contains("unknown variant `xml`, expected `json` or `console`"), "{error}");
    }
}

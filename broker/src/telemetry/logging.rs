use std::io::IsTerminal as _;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::config::{LogFormat, TelemetrySettings};

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter does not parse; `config check` tells the same.
    #[error("telemetry.log_filter: {0}")]
    Filter(#[from] ParseError),
    /// The process logs already.
    #[error("logging cannot start: {0}")]
    Taken(#[from] TryInitError),
}

/// What is not logged unless the settings name it: for each request that it cannot parse, the HTTP server has a line at
/// level error, so that anybody could fill the log. The client is answered, and the fault is the client's.
const QUIETED: &str = "actix_http::h1::dispatcher=off,actix_http::h1::decoder=off";

/// Starts the process's log on standard error.
///
/// The filter comes from the settings alone: `RUST_LOG` is not read, so that one place says what is logged.
///
/// # Errors
/// [`LoggingError`]: the operator's fault, or a second call in one process.
pub fn init_logging(settings: &TelemetrySettings) -> Result<(), LoggingError> {
    subscriber(settings, std::io::stderr().is_terminal(), std::io::stderr)?.try_init()?;
    Ok(())
}

/// The subscriber for a writer that is, or is not, a terminal.
fn subscriber<W>(
    settings: &TelemetrySettings,
    terminal: bool,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, LoggingError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = filter(&settings.log_filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let json = match settings.log_format {
        LogFormat::Auto => !terminal,
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    Ok(if json {
        Box::new(builder.json().flatten_event(true).with_current_span(false).finish())
    } else {
        Box::new(builder.with_ansi(terminal).finish())
    })
}

/// The filter of the settings, and less of the HTTP library than it would say by itself: its start-up lines repeat ours,
/// once for each worker. A filter that names the library has its own way, and one that shows less stays as it is.
fn filter(text: &str) -> Result<EnvFilter, ParseError> {
    let filter = EnvFilter::try_new(format!("{QUIETED},{text}"))?;
    let shows_more = filter.max_level_hint().is_none_or(|level| level > LevelFilter::WARN);
    if text.contains("actix_server") || !shows_more {
        return Ok(filter);
    }
    Ok(filter.add_directive("actix_server=warn".parse()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What a log of one debug and one warning event shows.
    fn logged(log_filter: &str, log_format: LogFormat, terminal: bool) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let settings = TelemetrySettings { log_filter: log_filter.to_owned(), log_format };
        let subscriber = subscriber(&settings, terminal, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("quiet");
            tracing::warn!(limit = 5, "loud");
            tracing::info!(target: "actix_server::builder", "starting 2 workers");
            tracing::error!(target: "actix_http::h1::dispatcher", "stream error");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn auto_is_json_where_nobody_looks_and_human_on_a_terminal() {
        let json: serde_json::Value = serde_json::from_str(&logged("info", LogFormat::Auto, false)).unwrap();
        assert_eq!((&json["message"], &json["limit"], &json["level"]), (&"loud".into(), &5.into(), &"WARN".into()));
        assert!(logged("info", LogFormat::Auto, true).contains('\u{1b}'));
        let human = logged("info", LogFormat::Human, false);
        assert!(human.contains("loud limit=5") && !human.contains('\u{1b}'), "{human}");
        assert!(logged("info", LogFormat::Json, true).starts_with('{'));
    }

    #[test]
    fn what_every_client_can_cause_is_logged_only_where_it_is_asked_for() {
        assert!(!logged("info", LogFormat::Json, false).contains("stream error"));
        assert!(logged("info,actix_http::h1::dispatcher=error", LogFormat::Json, false).contains("stream error"));
    }

    #[test]
    fn the_filter_of_the_settings_decides() {
        assert_eq!(logged("debug", LogFormat::Json, false).lines().count(), 2);
        assert_eq!(logged("off", LogFormat::Json, false), "");
        assert_eq!(logged("error", LogFormat::Json, false), "");
        assert_eq!(logged("info", LogFormat::Json, false).lines().count(), 1, "the library's start-up lines are left out");
        assert_eq!(logged("info,actix_server=info", LogFormat::Json, false).lines().count(), 2, "unless they are asked for");
        let wrong = TelemetrySettings { log_filter: "a=b=c".to_owned(), log_format: LogFormat::Auto };
        assert!(matches!(subscriber(&wrong, false, std::io::sink), Err(LoggingError::Filter(_))));
    }
}

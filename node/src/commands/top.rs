//! `mantlet top`: what every model does right now.
//!
//! Two looks at the node's counters and the time between them make one view: `sample` takes the looks, `view` says what
//! happened between two of them, `screen` draws it.

mod sample;
mod screen;
mod view;

use std::io::IsTerminal as _;

use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval_at},
};
use types::Refusal;

use crate::{
    cli::{Format, Top},
    client::Client,
    output,
};
use sample::Looker;
use screen::Screen;
use view::View;

/// Shows what happens, again and again, until told to stop; once where nobody watches.
///
/// # Errors
/// What the node refuses.
pub(crate) async fn run(client: &Client, arguments: &Top, format: Format) -> Result<(), Refusal> {
    let watched = std::io::stdout().is_terminal();
    let once = arguments.once || (format == Format::Text && !watched);
    let stopped = stopped()?;
    tokio::pin!(stopped);
    let mut looker = Looker::new(client);
    let mut before = looker.look().await?;
    let screen = (!once && format == Format::Text).then(Screen::open);
    let every = arguments.interval.0.max(std::time::Duration::from_millis(100));
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = &mut stopped => return Ok(()),
        }
        let now = tokio::select! {
            looked = looker.look() => looked?,
            () = &mut stopped => return Ok(()),
        };
        let view = View::between(&before, &now);
        before = now;
        let shown = match (format, &screen) {
            (Format::Json, _) => output::line(&serde_json::to_string(&view).unwrap_or_default()),
            (Format::Text, Some(screen)) => screen.draw(&view.text()),
            (Format::Text, None) => output::line(view.text().trim_end()),
        };
        // Whoever read it has gone.
        if once || shown.is_err() {
            return Ok(());
        }
    }
}

/// Resolves when somebody wants it to end.
fn stopped() -> Result<impl Future<Output = ()>, Refusal> {
    let listen = |kind| signal(kind).map_err(|error| output::internal(&error));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

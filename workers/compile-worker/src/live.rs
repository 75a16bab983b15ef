//! The log of a running build, stored in pieces while it comes.

use std::time::Duration;

use flotilla_runtime::Failure;
use tokio::{sync::mpsc::UnboundedReceiver, time::Instant};

use crate::{
    builds::{Builds, Live},
    message::BuildOrder,
    publish::Artifacts,
};

/// What is said within this time is one piece.
const PIECE: Duration = Duration::from_secs(1);

/// Stores what comes until the sender is gone. A piece that cannot be stored is missing in the
/// live log only: the whole log is stored at the end.
pub(crate) async fn publish(
    mut said: UnboundedReceiver<Vec<u8>>,
    (builds, artifacts): (&Builds, &Artifacts),
    order: &BuildOrder,
    generation: u64,
) {
    let mut pieces = 0;
    while let Some(piece) = collect(&mut said).await {
        let stored = async {
            artifacts.store_piece(order, generation, pieces, piece).await?;
            let live = Live { generation, pieces: pieces + 1 };
            builds.live(order, live).await
        };
        let stored: Result<(), Failure> = stored.await;
        match stored {
            Ok(()) => pieces += 1,
            Err(why) => tracing::warn!(%why, "a piece of a live log is not stored"),
        }
    }
}

/// All that is said within the time of a piece, from its first word.
async fn collect(said: &mut UnboundedReceiver<Vec<u8>>) -> Option<Vec<u8>> {
    let mut piece = said.recv().await?;
    let end = Instant::now() + PIECE;
    while let Ok(Some(more)) = tokio::time::timeout_at(end, said.recv()).await {
        piece.extend_from_slice(&more);
    }
    Some(piece)
}

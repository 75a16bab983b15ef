use futures::FutureExt;
use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn deep_queues_share_the_slots_by_their_weights(
        weights in prop::collection::vec(1u32..10, 1..4), slots in 1usize..12,
    ) {
        let (all, stop) = (Slots::plain(slots, weights.clone()), CancellationToken::new());
        let mut busy = std::collections::VecDeque::from(all.try_take(0, slots));
        all.unused(0, slots);
        let mut got = vec![0usize; weights.len()];
        let wait = |queue| Box::pin(all.take(queue, 1, &stop));
        let mut waiting: Vec<_> = (0..weights.len()).map(wait).collect();
        for turn in &mut waiting {
            prop_assert!(turn.as_mut().now_or_never().is_none());
        }
        for _ in 0..2000 {
            drop(busy.pop_front());
            for queue in 0..weights.len() {
                if let Some(taken) = waiting[queue].as_mut().now_or_never() {
                    busy.extend(taken.unwrap());
                    got[queue] += 1;
                    waiting[queue] = wait(queue);
                    prop_assert!(waiting[queue].as_mut().now_or_never().is_none());
                }
            }
        }
        let (total, sum) = (got.iter().sum::<usize>() as f64, f64::from(weights.iter().sum::<u32>()));
        for (got, weight) in got.iter().zip(&weights) {
            let due = total * f64::from(*weight) / sum;
            prop_assert!((*got as f64 - due).abs() <= 10.0 + 0.05 * due, "{got} of {due}");
        }
    }

    #[test]
    fn no_more_slots_are_out_than_there_are(
        slots in 1usize..8, steps in prop::collection::vec((0usize..2, 0usize..12, any::<bool>()), 0..60),
    ) {
        let (all, mut out) = (Slots::plain(slots, [3, 1]), Vec::new());
        for (queue, most, give_back) in steps {
            out.extend(all.try_take(queue, most));
            prop_assert!(out.len() <= slots && all.state().free(0) + out.len() == slots);
            out.truncate(if give_back { out.len() / 2 } else { out.len() });
        }
    }
}

#[tokio::test]
async fn who_was_away_is_next_but_has_saved_nothing_up() {
    let (slots, stop) = (Slots::plain(1, [1, 1]), CancellationToken::new());
    for _ in 0..50 {
        slots.take(0, 1, &stop).await.unwrap();
    }
    let busy = slots.take(0, 1, &stop).await.unwrap();
    let order = Mutex::new(Vec::new());
    let takes = async |queue| {
        for _ in 0..6 {
            let _slot = slots.take(queue, 1, &stop).await.unwrap();
            order.lock().unwrap().push(queue);
        }
    };
    tokio::join!(takes(0), takes(1), async { drop(busy) });
    let order = order.into_inner().unwrap();
    let ahead = order.iter().take(6).filter(|queue| **queue == 1).count();
    assert!((3..=4).contains(&ahead), "{order:?}");
}

/// Two slots, with two messages in them and more rights than that.
async fn overfull() -> (Arc<Slots>, Vec<Slot>) {
    let slots = Slots::new(2, 100, [Part { weight: 1, ahead: true }]);
    let mut busy = slots.try_take(0, 2);
    for slot in &mut busy {
        assert!(slot.begin(Instant::now(), &CancellationToken::new()).await);
    }
    slots.state().ahead.served(Duration::from_millis(1));
    slots.received(0, Duration::from_millis(10), Depth::Deep);
    assert!(slots.state().free(0) > 0);
    (slots, busy)
}

#[tokio::test(start_paused = true)]
async fn who_comes_ahead_of_its_slot_waits_for_it_but_not_for_long() {
    let (slots, mut busy) = overfull().await;
    let (mut ahead, stop) = (slots.try_take(0, 2), CancellationToken::new());
    let soon = Duration::from_millis(20);
    let free = async {
        tokio::time::sleep(soon).await;
        drop(busy.pop());
    };
    let start = Instant::now();
    let (began, ()) = tokio::join!(ahead[0].begin(start, &stop), free);
    assert!(began && start.elapsed() == soon);
    assert!(!ahead[1].begin(start, &stop).await, "there is none for it");
    assert_eq!(start.elapsed(), soon + ABOUT);
    assert_eq!(slots.state().ahead.allowed(), 0, "and nothing comes ahead for now");
    drop((busy, ahead));
    assert_eq!(slots.state().free(0), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_wait_for_a_slot() {
    let (slots, _busy) = overfull().await;
    let (mut ahead, stop) = (slots.try_take(0, 1), CancellationToken::new());
    let start = Instant::now();
    let (began, ()) = tokio::join!(ahead[0].begin(start, &stop), async { stop.cancel() });
    assert!(!began && start.elapsed().is_zero());
}

#[tokio::test]
async fn beside_a_queue_that_is_received_ahead_another_gets_its_turn_and_no_more_than_slots() {
    let parts = [true, false].map(|ahead| Part { weight: 1, ahead });
    let slots = Slots::new(2, 100, parts);
    slots.state().ahead.served(Duration::from_millis(1));
    slots.received(0, Duration::from_millis(10), Depth::Deep);
    slots.received(1, Duration::from_millis(10), Depth::Empty);
    let stop = CancellationToken::new();
    let mut out = slots.take(0, 12, &stop).await.unwrap();
    assert_eq!(out.len(), 12);
    let other = slots.take(1, 10, &stop);
    let free = async {
        tokio::task::yield_now().await;
        assert!(slots.turn(0, 1).is_none(), "it is the other's turn");
        out.truncate(1);
    };
    let (other, ()) = tokio::join!(other, free);
    assert_eq!(other.unwrap().len(), 1);
}

#[tokio::test]
async fn a_stop_ends_the_wait() {
    let (slots, stop) = (Slots::plain(1, [1]), CancellationToken::new());
    let _busy = slots.take(0, 1, &stop).await;
    let (stopped, ()) = tokio::join!(slots.take(0, 1, &stop), async { stop.cancel() });
    assert!(stopped.is_none());
}

//! Which sensor follows which.

use std::collections::HashSet;

use super::dice::Dice;

/// Tubes that join until all is one.
#[derive(Debug, Clone)]
pub struct Tree {
    parents: Vec<Option<usize>>,
    children: Vec<Vec<usize>>,
}

impl Tree {
    /// Tubes that join: so much of the sensors, as a part, stand behind the one before; the others
    /// behind any.
    pub(super) fn random(sensors: usize, tubes: f64, dice: &mut Dice) -> Self {
        let parent = |sensor: usize, dice: &mut Dice| match sensor {
            0 => None,
            _ if dice.part() < tubes => Some(sensor - 1),
            _ => Some(dice.below(sensor)),
        };
        let parents: Vec<_> = (0..sensors).map(|sensor| parent(sensor, dice)).collect();
        let mut children = vec![Vec::new(); sensors];
        for (sensor, parent) in parents.iter().enumerate() {
            parent.iter().for_each(|parent: &usize| children[*parent].push(sensor));
        }
        Self { parents, children }
    }

    /// How many sensors there are.
    pub fn sensors(&self) -> usize {
        self.parents.len()
    }

    /// The sensor that follows; none behind the last.
    pub fn parent(&self, sensor: usize) -> Option<usize> {
        self.parents[sensor]
    }

    /// The sensors that this one follows.
    pub fn children(&self, sensor: usize) -> &[usize] {
        &self.children[sensor]
    }

    /// Whether tubes join at this sensor.
    pub(super) fn is_junction(&self, sensor: usize) -> bool {
        self.children[sensor].len() > 1
    }

    /// The sensors that share an edge with this one.
    pub(super) fn beside(&self, sensor: usize) -> Vec<usize> {
        self.parents[sensor].into_iter().chain(self.children[sensor].iter().copied()).collect()
    }

    /// A sensor and those within two edges of it.
    pub(super) fn around(&self, sensor: usize) -> HashSet<usize> {
        let mut near = HashSet::from([sensor]);
        for _ in 0..2 {
            let next: Vec<_> = near.iter().flat_map(|it| self.beside(*it)).collect();
            near.extend(next);
        }
        near
    }

    /// A sensor and those that follow it, up to the last before tubes join.
    pub(super) fn down_the_tube(&self, sensor: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(sensor), |at| {
            self.parents[*at].filter(|parent| !self.is_junction(*parent))
        })
    }

    /// How many edges further than from the farthest leaf a wave came, at each sensor.
    pub(super) fn lags(&self) -> Vec<i64> {
        let mut depths = vec![0; self.sensors()];
        for sensor in 0..self.sensors() {
            depths[sensor] = self.parents[sensor].map_or(0, |parent| depths[parent] + 1);
        }
        let deepest = depths.iter().copied().max().unwrap_or(0);
        depths.into_iter().map(|depth| deepest - depth).collect()
    }
}

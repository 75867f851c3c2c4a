//! Which track is which detection: the assignment of least total cost, after Kuhn and Munkres by shortest augmenting paths.
//!
//! A pair that costs more than a limit is never made. All memory is taken when it is made.

/// A table of costs and what solving it needs; at most `max` rows and columns.
#[derive(Debug)]
pub struct Assignment {
    max: usize,
    /// Row by row.
    costs: Vec<f64>,
    rows: usize,
    columns: usize,
    /// Rows and columns that have at least one pair within the limit: the others are in nobody's way.
    live_rows: Vec<usize>,
    live_columns: Vec<usize>,
    row_potential: Vec<f64>,
    column_potential: Vec<f64>,
    /// Of each column: the row that has it, the column before it on the path, the least cost of reaching it.
    owner: Vec<usize>,
    before: Vec<usize>,
    least: Vec<f64>,
    reached: Vec<bool>,
    pairs: Vec<(usize, usize)>,
}

impl Assignment {
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            max,
            costs: Vec::with_capacity(max * max),
            rows: 0,
            columns: 0,
            live_rows: Vec::with_capacity(max),
            live_columns: Vec::with_capacity(max),
            row_potential: Vec::with_capacity(max + 1),
            column_potential: Vec::with_capacity(max + 1),
            owner: Vec::with_capacity(max + 1),
            before: Vec::with_capacity(max + 1),
            least: Vec::with_capacity(max + 1),
            reached: Vec::with_capacity(max + 1),
            pairs: Vec::with_capacity(max),
        }
    }

    /// The pairs (row, column) of least total cost, each of at most `limit`, as many as there can be.
    ///
    /// # Panics
    /// With more rows or columns than it was made for.
    pub fn solve(
        &mut self,
        rows: usize,
        columns: usize,
        limit: f64,
        cost: impl Fn(usize, usize) -> f64,
    ) -> &[(usize, usize)] {
        assert!(rows <= self.max && columns <= self.max, "{rows}×{columns} of at most {}", self.max);
        (self.rows, self.columns) = (rows, columns);
        self.costs.clear();
        for row in 0..rows {
            self.costs.extend((0..columns).map(|column| cost(row, column)));
        }
        let within = |row: usize, column: usize| self.costs[row * columns + column] <= limit;
        self.live_rows.clear();
        self.live_rows.extend((0..rows).filter(|&row| (0..columns).any(|column| within(row, column))));
        self.live_columns.clear();
        self.live_columns.extend((0..columns).filter(|&column| self.live_rows.iter().any(|&row| within(row, column))));
        self.augment(limit);
        self.collect(limit);
        &self.pairs
    }

    /// Whether the columns take the part of the rows: the method wants at most as many rows as columns.
    fn turned(&self) -> bool {
        self.live_rows.len() > self.live_columns.len()
    }

    /// Cost of a live pair, by its place in the short and in the long list; a little above the limit beyond it, as in the
    /// reference, so that pairs within it come first.
    fn cost(&self, short: usize, long: usize, limit: f64) -> f64 {
        let (row, column) = if self.turned() { (long, short) } else { (short, long) };
        let cost = self.costs[self.live_rows[row] * self.columns + self.live_columns[column]];
        if cost <= limit { cost } else { limit + 1e-4 }
    }

    /// Gives every entry of the short list one of the long. Both count from 1; 0 is none.
    fn augment(&mut self, limit: f64) {
        let (rows, columns) = (self.live_rows.len(), self.live_columns.len());
        let (short, long) = (rows.min(columns), rows.max(columns));
        refill(&mut self.row_potential, short + 1, 0.0);
        refill(&mut self.column_potential, long + 1, 0.0);
        refill(&mut self.owner, long + 1, 0);
        refill(&mut self.before, long + 1, 0);
        for row in 1..=short {
            self.owner[0] = row;
            refill(&mut self.least, long + 1, f64::INFINITY);
            refill(&mut self.reached, long + 1, false);
            let mut at = 0;
            loop {
                self.reached[at] = true;
                let from = self.owner[at];
                let (mut nearest, mut next) = (f64::INFINITY, 0);
                for column in 1..=long {
                    if self.reached[column] {
                        continue;
                    }
                    let reduced = self.cost(from - 1, column - 1, limit)
                        - self.row_potential[from]
                        - self.column_potential[column];
                    if reduced < self.least[column] {
                        self.least[column] = reduced;
                        self.before[column] = at;
                    }
                    if self.least[column] < nearest {
                        (nearest, next) = (self.least[column], column);
                    }
                }
                for column in 0..=long {
                    if self.reached[column] {
                        self.row_potential[self.owner[column]] += nearest;
                        self.column_potential[column] -= nearest;
                    } else {
                        self.least[column] -= nearest;
                    }
                }
                at = next;
                if self.owner[at] == 0 {
                    break;
                }
            }
            while at != 0 {
                let before = self.before[at];
                self.owner[at] = self.owner[before];
                at = before;
            }
        }
    }

    fn collect(&mut self, limit: f64) {
        self.pairs.clear();
        for long in 1..self.owner.len() {
            let Some(short) = self.owner[long].checked_sub(1) else { continue };
            let (row, column) = if self.turned() { (long - 1, short) } else { (short, long - 1) };
            let (row, column) = (self.live_rows[row], self.live_columns[column]);
            if self.costs[row * self.columns + column] <= limit {
                self.pairs.push((row, column));
            }
        }
    }
}

fn refill<T: Clone>(list: &mut Vec<T>, len: usize, value: T) {
    list.clear();
    list.resize(len, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Least cost of all ways to pair, a pair not made costing what the solver takes it for.
    fn least(costs: &[Vec<f64>], limit: f64, row: usize, taken: &mut Vec<bool>) -> f64 {
        if row == costs.len() {
            return 0.0;
        }
        let mut best = least(costs, limit, row + 1, taken) + limit + 1e-4;
        for column in 0..taken.len() {
            if !taken[column] && costs[row][column] <= limit {
                taken[column] = true;
                best = best.min(costs[row][column] + least(costs, limit, row + 1, taken));
                taken[column] = false;
            }
        }
        best
    }

    #[test]
    fn it_is_the_best_of_all_ways_to_pair() {
        let mut random = Random::new(5);
        let mut assignment = Assignment::new(6);
        for round in 0..3000 {
            let (rows, columns) = (random.below(7), random.below(7));
            let limit = f64::from(random.uniform(0.2, 0.9));
            // Coarse costs in some rounds, so that there are ties.
            let mut cost = || {
                let cost = f64::from(random.uniform(0.0, 1.0));
                if round % 3 == 0 { (cost * 4.0).round() / 4.0 } else { cost }
            };
            let costs: Vec<Vec<f64>> = (0..rows).map(|_| (0..columns).map(|_| cost()).collect()).collect();
            let pairs = assignment.solve(rows, columns, limit, |row, column| costs[row][column]).to_vec();
            let unmade = (rows - pairs.len()) as f64 * (limit + 1e-4);
            let found = pairs.iter().map(|&(row, column)| costs[row][column]).sum::<f64>() + unmade;
            let best = least(&costs, limit, 0, &mut vec![false; columns]);
            assert!((found - best).abs() < 1e-9, "{found} instead of {best}: {pairs:?} of {costs:?}");
            for (at, &(row, column)) in pairs.iter().enumerate() {
                assert!(costs[row][column] <= limit);
                assert!(pairs[..at].iter().all(|&(r, c)| r != row && c != column), "{pairs:?}");
            }
        }
    }

    #[test]
    fn nothing_is_paired_with_nothing() {
        let mut assignment = Assignment::new(4);
        assert!(assignment.solve(0, 3, 1.0, |_, _| 0.0).is_empty());
        assert!(assignment.solve(3, 0, 1.0, |_, _| 0.0).is_empty());
        assert!(assignment.solve(2, 2, 0.5, |_, _| f64::NAN).is_empty());
    }
}

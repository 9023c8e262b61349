use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::instruction::{Binary, Instruction, Odd, Register, Shift, ShiftBy, Unary};
use super::lanes::Lanes;
use super::program::{OPERATIONS_MAX, Program, ProgramError};
use super::tape::Tape;

/// Values at which two implementations of 32-bit arithmetic are likeliest to part.
const EDGES: [i32; 7] = [0, 1, -1, i32::MIN, i32::MAX, 31, 32];
const LANES: u32 = Lanes::COUNT as u32;
/// Registers that no lane lives in.
const TEMPORARIES: u32 = Register::COUNT as u32 - LANES;
/// A constant and a fold for each lane.
const OPENING: usize = 2 * Lanes::COUNT;
/// Two rounds over the lanes.
const DIFFUSION: usize = 2 * Lanes::COUNT;

/// Where a program's constants come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Constants {
    /// All 32-bit values alike: what is issued.
    Uniform,
    /// Three of four are 0, 1, -1, the extremes, 31 or 32: for tests that compare implementations.
    Edges,
}

/// What kind of program is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    operations: usize,
    constants: Constants,
    reads_file: bool,
}

/// Such a program cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a program has {least} to {OPERATIONS_MAX} operations, not {0}", least = Shape::OPERATIONS_MIN)]
pub struct ShapeError(pub usize);

impl Shape {
    /// Operations of the shortest program that reads every tape and mixes every lane.
    pub const OPERATIONS_MIN: usize = OPENING + DIFFUSION;

    /// A shape of exactly this many operations.
    ///
    /// # Errors
    /// [`ShapeError`] outside [`Shape::OPERATIONS_MIN`] to [`OPERATIONS_MAX`].
    pub fn new(operations: usize, constants: Constants) -> Result<Self, ShapeError> {
        if (Self::OPERATIONS_MIN..=OPERATIONS_MAX).contains(&operations) {
            Ok(Self { operations, constants, reads_file: false })
        } else {
            Err(ShapeError(operations))
        }
    }

    /// The same of a program that reads [`Tape::File`] too. Other programs are what they would be without it.
    #[must_use]
    pub const fn reading_file(self) -> Self {
        Self { reads_file: true, ..self }
    }

    /// The tapes that such a program reads.
    const fn tapes(self) -> &'static [Tape] {
        if self.reads_file { Tape::ALL } else { Tape::ALWAYS }
    }
}

/// Expands a seed to a program.
///
/// Every lane is set by folding a tape, and every tape is folded into at least one lane. After that each step is a
/// bijection on one lane, given the others, so that the lossy operations within it cannot collapse what the lanes hold.
/// At 1,024 operations and the longest origin the cost stays under the limit: at most four lanes fold the origin, three
/// where a file is read.
///
/// # Errors
/// None in practice: the length was checked with the shape.
///
/// Source: the expansion is frozen by the golden vectors in `vectors/`.
pub fn generate(seed: &[u8; 32], shape: Shape) -> Result<Program, ProgramError> {
    let draws = Draws { stream: ChaCha20Rng::from_seed(*seed), constants: shape.constants };
    let mut generator = Generator { draws, steps: Vec::with_capacity(shape.operations) };
    generator.opening(shape.tapes());
    while let Some(room @ 1..) = shape.operations.checked_sub(DIFFUSION + generator.steps.len()) {
        generator.step(room);
    }
    generator.diffusion();
    generator.diffusion();
    Program::new(generator.steps)
}

struct Generator {
    draws: Draws,
    steps: Vec<Instruction>,
}

impl Generator {
    /// Sets each lane from a constant and a tape.
    fn opening(&mut self, tapes: &[Tape]) {
        for (lane, tape) in (0..).zip(self.draws.tapes(tapes)) {
            let dst = Register::wrapped(lane);
            let (imm, by, odd) = (self.draws.constant(), self.draws.shift(), self.draws.odd());
            self.steps.push(Instruction::Const { dst, imm });
            self.steps.push(Instruction::Fold { dst, tape, by, odd });
        }
    }

    /// One bijection on one lane, in at most `room` operations.
    fn step(&mut self, room: usize) {
        let lane = self.draws.below(LANES);
        let dst = Register::wrapped(lane);
        let step = match self.draws.below(8) {
            0 => Instruction::MulOdd { dst, a: dst, by: self.draws.odd() },
            1 => Instruction::Shift { op: Shift::Rotl, dst, a: dst, by: self.draws.shift() },
            2 => Instruction::Shift { op: Shift::Xsh, dst, a: dst, by: self.draws.shift() },
            3 => Instruction::Unary { op: self.draws.pick(&[Unary::Neg, Unary::Not]), dst, a: dst },
            _ => {
                let wanted = self.draws.below(4) as usize;
                let b = self.function_of_others(lane, wanted.min(room - 1));
                self.combine(dst, b)
            }
        };
        self.steps.push(step);
    }

    /// A register with a function of the other lanes, lossy or not, in `depth` operations.
    fn function_of_others(&mut self, lane: u32, depth: usize) -> Register {
        let mut last = None;
        for _ in 0..depth {
            let dst = Register::wrapped(LANES + self.draws.below(TEMPORARIES));
            let step = self.temporary(lane, dst, last);
            self.steps.push(step);
            last = Some(dst);
        }
        last.unwrap_or_else(|| self.draws.other_lane(lane))
    }

    /// One operation on other lanes and the temporary before it.
    fn temporary(&mut self, lane: u32, dst: Register, last: Option<Register>) -> Instruction {
        let a = last.unwrap_or_else(|| self.draws.other_lane(lane));
        match self.draws.below(6) {
            0 if last.is_none() => Instruction::Const { dst, imm: self.draws.constant() },
            0 | 1 => Instruction::Unary { op: self.draws.pick(Unary::ALL), dst, a },
            2 => Instruction::Shift { op: self.draws.pick(Shift::ALL), dst, a, by: self.draws.shift() },
            3 => {
                let (b, c) = (self.draws.operand(lane, last), self.draws.operand(lane, last));
                Instruction::Select { dst, a, b, c }
            }
            _ => {
                let (op, b) = (self.draws.pick(Binary::ALL), self.draws.operand(lane, last));
                // Half of the comparisons and differences the other way round.
                let (a, b) = if self.draws.below(2) == 0 { (a, b) } else { (b, a) };
                Instruction::Binary { op, dst, a, b }
            }
        }
    }

    /// Each lane takes in the one before it; after two rounds each depends on all.
    fn diffusion(&mut self) {
        for lane in 0..LANES {
            let step = self.combine(Register::wrapped(lane), Register::wrapped((lane + LANES - 1) % LANES));
            self.steps.push(step);
        }
    }

    /// A combination from which, `b` known, the old value of `dst` can be had back.
    fn combine(&mut self, dst: Register, b: Register) -> Instruction {
        Instruction::Binary { op: self.draws.pick(&[Binary::Add, Binary::Sub, Binary::Xor]), dst, a: dst, b }
    }
}

/// The stream of random choices. Its order of consumption is part of the format.
struct Draws {
    stream: ChaCha20Rng,
    constants: Constants,
}

impl Draws {
    /// Uniform below a bound that is not zero.
    fn below(&mut self, bound: u32) -> u32 {
        below(&mut self.stream, bound)
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u32) as usize]
    }

    fn constant(&mut self) -> i32 {
        if self.constants == Constants::Edges && self.below(4) != 0 {
            return self.pick(&EDGES);
        }
        self.stream.next_u32().cast_signed()
    }

    fn odd(&mut self) -> Odd {
        Odd::of(self.constant())
    }

    fn shift(&mut self) -> ShiftBy {
        ShiftBy::wrapped(self.below(31))
    }

    /// Any lane but this one.
    fn other_lane(&mut self, lane: u32) -> Register {
        Register::wrapped((lane + 1 + self.below(LANES - 1)) % LANES)
    }

    /// The temporary before, or a lane other than this one.
    fn operand(&mut self, lane: u32, last: Option<Register>) -> Register {
        match last {
            Some(last) if self.below(2) == 0 => last,
            _ => self.other_lane(lane),
        }
    }

    /// A tape for each lane, every tape at least once, shuffled.
    fn tapes(&mut self, all: &[Tape]) -> [Tape; Lanes::COUNT] {
        let mut tapes = [Tape::Origin; Lanes::COUNT];
        for (place, tape) in tapes.iter_mut().enumerate() {
            *tape = all.get(place).copied().unwrap_or_else(|| self.pick(all));
        }
        for place in (1..tapes.len()).rev() {
            tapes.swap(place, self.below(place as u32 + 1) as usize);
        }
        tapes
    }
}

/// Uniform below a bound that is not zero, by rejection.
pub(super) fn below(stream: &mut ChaCha20Rng, bound: u32) -> u32 {
    loop {
        let word = stream.next_u32();
        if is_unbiased(word, bound) {
            return word % bound;
        }
    }
}

/// Is a word below the last multiple of the bound, so that every remainder comes equally often?
fn is_unbiased(word: u32, bound: u32) -> bool {
    let excess = (u32::MAX % bound + 1) % bound;
    word <= u32::MAX - excess
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::challenge::evaluate::run;
    use crate::challenge::{Tapes, evaluate};
    use countersign_node_proto::ConnectionId;
    use proptest::prelude::*;

    fn shapes() -> impl Strategy<Value = Shape> {
        (32_usize..200, any::<bool>(), any::<bool>()).prop_map(|(operations, edges, file)| {
            let shape = Shape::new(operations, if edges { Constants::Edges } else { Constants::Uniform }).unwrap();
            if file { shape.reading_file() } else { shape }
        })
    }

    proptest! {
        #[test]
        fn programs_have_the_wanted_length_read_every_tape_and_round_trip(seed: [u8; 32], shape in shapes()) {
            let program = generate(&seed, shape).unwrap();
            prop_assert_eq!(program.instructions().len(), shape.operations);
            for tape in shape.tapes() {
                let reads = |step: &Instruction| matches!(step, Instruction::Fold { tape: read, .. } if read == tape);
                prop_assert!(program.instructions().iter().any(reads));
            }
            prop_assert_eq!(Program::decode(&program.encode()), Ok(program));
        }

        #[test]
        fn every_tape_changes_the_lanes(
            seed: [u8; 32], shape in shapes(), server: [u8; 32], client: [u8; 32], id: [u8; 16], thumbprint: [u8; 32],
            origin in "https://[a-z]{1,20}", at in 0_usize..32, bit in 0_u8..8,
        ) {
            let program = generate(&seed, shape).unwrap();
            let flip = |bytes: &[u8]| {
                let mut bytes = bytes.to_vec();
                let at = at % bytes.len();
                bytes[at] ^= 1 << bit;
                bytes
            };
            let wide = |bytes: &[u8; 32]| -> [u8; 32] { flip(bytes).try_into().unwrap() };
            let id = ConnectionId::from_bytes(id);
            let tapes = Tapes {
                server_nonce: &server, client_nonce: Some(&client), connection: &id,
                thumbprint: Some(&thumbprint), origin: &origin, file: Some(&thumbprint),
            };
            let (other_server, other_client, other_thumbprint) = (wide(&server), wide(&client), wide(&thumbprint));
            let other_id = ConnectionId::from_bytes(flip(id.as_bytes()).try_into().unwrap());
            let other_origin = format!("{origin}:1");
            let changed = [
                Tapes { server_nonce: &other_server, ..tapes },
                Tapes { client_nonce: Some(&other_client), ..tapes },
                Tapes { connection: &other_id, ..tapes },
                Tapes { thumbprint: Some(&other_thumbprint), ..tapes },
                Tapes { origin: &other_origin, ..tapes },
            ];
            let lanes = evaluate(&program, &tapes).unwrap();
            let other_file = evaluate(&program, &Tapes { file: Some(&other_thumbprint), ..tapes }).unwrap();
            prop_assert_eq!(*other_file.values() != *lanes.values(), shape.reads_file);
            for other in &changed[..4] {
                // One word differs, and a fold is a bijection in each word.
                prop_assert_ne!(*evaluate(&program, other).unwrap().values(), *lanes.values());
            }
            prop_assert_ne!(*evaluate(&program, &changed[4]).unwrap().values(), *lanes.values());
        }

        #[test]
        fn steps_after_the_opening_lose_nothing(seed: [u8; 32], shape in shapes()) {
            let program = generate(&seed, shape).unwrap();
            let steps = &program.instructions()[OPENING..];
            let id = ConnectionId::from_bytes([0; 16]);
            let tapes =
                Tapes { server_nonce: &[0; 32], client_nonce: None, connection: &id, thumbprint: None, origin: "", file: Some(&[9; 32]) };
            let mut seen = HashSet::new();
            // Close neighbours and extremes: the states that a lossy step would bring together.
            let states = (0..8).flat_map(|lane| (0..40).map(move |value| (lane, value))).map(|(lane, value)| {
                let mut registers = [0; Register::COUNT];
                registers[lane] = if value < 32 { 1 << value } else { EDGES[(value - 32) % 7].wrapping_sub(2) };
                registers
            });
            let distinct: HashSet<_> = states.collect();
            for mut registers in distinct.iter().copied() {
                run(steps, &tapes, &mut registers);
                seen.insert(registers[..8].to_vec());
            }
            prop_assert_eq!(seen.len(), distinct.len());
        }
    }

    #[test]
    fn length_is_bounded() {
        assert_eq!(Shape::new(31, Constants::Uniform), Err(ShapeError(31)));
        assert_eq!(Shape::new(1_025, Constants::Uniform), Err(ShapeError(1_025)));
        assert_eq!(ShapeError(5).to_string(), "a program has 32 to 1024 operations, not 5");
    }

    #[test]
    fn longest_program_over_the_longest_origin_is_within_its_fuel() {
        let origin = "a".repeat(crate::challenge::ORIGIN_MAX);
        let id = ConnectionId::from_bytes([1; 16]);
        let tapes = Tapes {
            server_nonce: &[2; 32],
            client_nonce: Some(&[3; 32]),
            connection: &id,
            thumbprint: Some(&[4; 32]),
            origin: &origin,
            file: Some(&[5; 32]),
        };
        let shape = Shape::new(OPERATIONS_MAX, Constants::Uniform).unwrap();
        for (seed, shape) in (0..64).flat_map(|seed| [(seed, shape), (seed, shape.reading_file())]) {
            assert!(evaluate(&generate(&[seed; 32], shape).unwrap(), &tapes).is_ok());
        }
    }

    #[test]
    fn rejection_sampling_has_no_bias_at_its_limit() {
        // 2^32 mod 3 is 1: exactly the highest word is refused. A power of two refuses none.
        assert!(!is_unbiased(u32::MAX, 3) && is_unbiased(u32::MAX - 1, 3));
        assert!(is_unbiased(u32::MAX, 8) && is_unbiased(u32::MAX, 1));
        // Just above the half: almost every second word.
        let bound = (1 << 31) + 1;
        assert!(is_unbiased(bound - 1, bound) && !is_unbiased(bound, bound));
    }
}

//! The registers of the frame outside, worked out by rules that look into memory.

use gimli::{
    CfaRule, Encoding, EndianSlice, Evaluation, EvaluationResult, LittleEndian, Location, RegisterRule,
    UnwindExpression, UnwindSection, Value,
};

use super::Known;

/// Steps of one expression; a compiler's have ten.
const MAX_STEPS: u32 = 256;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// A frame whose registers are worked out.
pub struct Frame<'f, S> {
    pub section: &'f S,
    pub encoding: Encoding,
    pub known: Known,
    /// The canonical frame address: what the stack pointer is in the frame outside.
    pub cfa: u64,
    pub word: &'f mut dyn FnMut(u64) -> Option<u64>,
}

impl<'a, S: UnwindSection<Slice<'a>>> Frame<'_, S> {
    pub fn cfa(&mut self, rule: &CfaRule<usize>) -> Option<u64> {
        match rule {
            CfaRule::RegisterAndOffset { register, offset } => {
                self.known.get(*register)?.checked_add_signed(*offset)
            }
            CfaRule::Expression(expression) => self.expression(*expression, None),
        }
    }

    /// The value that a register had in the frame outside.
    pub fn recover(&mut self, rule: Option<RegisterRule<usize>>, same: Option<u64>) -> Option<u64> {
        match rule? {
            RegisterRule::SameValue => same,
            RegisterRule::Offset(offset) => (self.word)(self.cfa.checked_add_signed(offset)?),
            RegisterRule::ValOffset(offset) => self.cfa.checked_add_signed(offset),
            RegisterRule::Register(register) => self.known.get(register),
            RegisterRule::Expression(expression) => {
                let at = self.expression(expression, Some(self.cfa))?;
                (self.word)(at)
            }
            RegisterRule::ValExpression(expression) => self.expression(expression, Some(self.cfa)),
            _ => None,
        }
    }

    fn expression(&mut self, expression: UnwindExpression<usize>, initial: Option<u64>) -> Option<u64> {
        let expression = expression.get(self.section).ok()?;
        let mut evaluation = Evaluation::new(expression.0, self.encoding);
        evaluation.set_max_iterations(MAX_STEPS);
        if let Some(value) = initial {
            evaluation.set_initial_value(value);
        }
        let mut state = evaluation.evaluate().ok()?;
        loop {
            state = match state {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresRegister { register, .. } => {
                    let value = Value::Generic(self.known.get(register)?);
                    evaluation.resume_with_register(value).ok()?
                }
                EvaluationResult::RequiresMemory { address, size: 8, .. } => {
                    let value = Value::Generic((self.word)(address)?);
                    evaluation.resume_with_memory(value).ok()?
                }
                _ => return None,
            };
        }
        match evaluation.as_result().last()?.location {
            Location::Address { address } => Some(address),
            _ => None,
        }
    }
}

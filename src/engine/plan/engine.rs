//! The plan as an engine: found on the shelf and mapped, or made on the spot.

use super::exec::Runner;
use super::file::{Head, Trust};
use super::kernels::Kernels;
use super::make::{self, Failure, Made, Stage, file_name, told};
use super::profile;
use super::program::Program;
use super::shelf::{self, Found, Shelf};
use super::target;
use super::weights::Weights;
use crate::engine::tract::{fence, half};
use crate::engine::{
    DeclaredInput, Engine, Error, Footprint, InputShape, LoadOptions, Network, Precision, Profile, Session, TensorInfo,
    TensorView,
};
use crate::log;

/// The backend.
#[derive(Debug)]
pub struct Plan {
    shelf: Shelf,
    precision: Precision,
}

const NAME: &str = "plan";

impl Plan {
    /// In [`Precision::Fp32`] it makes plans that are missing; in others it runs those that somebody wanted, and baked.
    #[must_use]
    pub fn new(shelf: Shelf, precision: Precision) -> Self {
        Self { shelf, precision }
    }

    /// The best kernels of this CPU for the precision.
    fn kernels(&self) -> Result<&'static Kernels, String> {
        target::best(self.precision)
    }

    /// Makes the plan of a network and keeps it, in place of one that is there. What cannot be kept is run from memory.
    fn make(
        &self,
        network: &Network<'_>,
        sha256: &str,
        kernels: &'static Kernels,
        threads: usize,
    ) -> Result<PlanSession, Error> {
        let origin = network.origin.display();
        let out_of_memory = |why| refused(network, why);
        self.shelf.making.begin();
        let made = make::make(network, sha256, kernels.into(), threads, &mut |_: Stage| {});
        let made = made.map_err(|failure| match failure {
            Failure::Refused(why) => {
                self.shelf.refuse(sha256, kernels.isa.name, &why);
                refused(network, why)
            }
            Failure::Engine(error) => error,
        })?;
        let said = format!("{origin}: plan made in {:.1} s: {}", made.seconds, told(&made.head));
        let Some(own) = &self.shelf.own else {
            log::say(&format!("{said}; in memory, as there is no state directory"));
            return made.run(kernels, threads).map_err(out_of_memory);
        };
        match Shelf::write(own, &made.head, &made.program, made.weights.as_ref()) {
            Ok(path) => log::say(&format!("{said}; kept as {}", path.display())),
            Err(error) => {
                log::say(&format!("{said}; in memory, as it cannot be kept: {error}"));
                return made.run(kernels, threads).map_err(out_of_memory);
            }
        }
        // From the file, so that its pages are shared and can be given back; what is in memory will do as well.
        match self.shelf.find(sha256, kernels.isa, Precision::Fp32, network.shape, &mut |why| complain(&why)) {
            Found::Plan(plan, _) => {
                PlanSession::new(&plan.head, plan.program, Weights::File(plan.weights), kernels, threads)
            }
            Found::Refused(_) | Found::Nothing => made.run(kernels, threads),
        }
        .map_err(out_of_memory)
    }
}

fn complain(why: &str) {
    log::say(&format!("a plan cannot be used: {why}"));
}

fn refused(network: &Network<'_>, why: String) -> Error {
    Error::Load { origin: network.origin.clone(), engine: NAME, why }
}

impl Engine for Plan {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").into()
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn probe(&self) -> Result<(), String> {
        self.kernels().map(drop)
    }

    fn load(&self, network: &Network<'_>, options: LoadOptions) -> Result<Box<dyn Session>, Error> {
        let threads = options.threads.max(1);
        let kernels = self.kernels().map_err(|why| refused(network, why))?;
        make::check_format(network).map_err(|why| refused(network, why))?;
        let sha256 = self.shelf.sha256(&network.origin, network.bytes);
        let find = || self.shelf.find(&sha256, kernels.isa, self.precision, network.shape, &mut |why| complain(&why));
        let found = match find() {
            Found::Nothing if self.shelf.own_appeared() => find(),
            found => found,
        };
        match found {
            Found::Plan(plan, path) => {
                if matches!(&plan.head.trust, Trust::Fp32(referee) if referee.outputs.is_empty()) {
                    log::say(&format!(
                        "plan {} was made on another machine and never compared with tract",
                        file_name(&path)
                    ));
                }
                let weights = Weights::File(plan.weights);
                let session = PlanSession::new(&plan.head, plan.program, weights, kernels, threads);
                return Ok(Box::new(session.map_err(|why| refused(network, why))?));
            }
            Found::Refused(why) => return Err(refused(network, why)),
            Found::Nothing => {}
        }
        let needed = match self.precision {
            Precision::Fp32 => None,
            Precision::Fp16 => Some("--fp16"),
            Precision::Int8 => Some("--int8 --calibrate DIR"),
        };
        if let Some(options) = needed {
            let (precision, isa) = (self.precision, kernels.isa.name);
            let why = format!("no {precision} plan for {isa} is there; `firstlight cache bake ID {options}` makes one");
            return Err(refused(network, why));
        }
        if self.shelf.own.is_some() {
            log::say(&format!("{}: no plan for {} yet; making one", network.origin.display(), kernels.isa.name));
        }
        Ok(Box::new(self.make(network, &sha256, kernels, threads)?))
    }
}

impl Made {
    fn run(self, kernels: &'static Kernels, threads: usize) -> Result<PlanSession, String> {
        PlanSession::new(&self.head, self.program, self.weights, kernels, threads)
    }
}

/// A plan with its memory and threads.
pub struct PlanSession {
    runner: Runner<Weights>,
    kernels: &'static Kernels,
    sha256: String,
    declared: DeclaredInput,
    shape: InputShape,
    infos: Vec<TensorInfo>,
    threads: usize,
    f16_input: bool,
    trust: Trust,
    /// Whether there are outputs.
    ran: bool,
}

impl std::fmt::Debug for PlanSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PlanSession({:?}, {}, {} threads)", self.shape, self.kernels.isa.name, self.threads)
    }
}

impl PlanSession {
    /// For a program that was checked.
    ///
    /// # Errors
    /// There is not the memory for it.
    pub fn new(
        head: &Head,
        program: Program,
        weights: Weights,
        kernels: &'static Kernels,
        threads: usize,
    ) -> Result<Self, String> {
        let [batch, channels, height, width] = head.binding.input;
        let info =
            |tensor: &super::program::Tensor| TensorInfo { name: tensor.name.clone(), shape: tensor.shape.clone() };
        let infos = program.outputs.iter().map(info).collect();
        Ok(Self {
            runner: fence::catch(|| Runner::new(program, weights, kernels, threads))?,
            kernels,
            sha256: head.binding.model_sha256.clone(),
            declared: shelf::declared(head),
            shape: InputShape { batch, channels, height, width },
            infos,
            threads,
            f16_input: head.f16_input,
            trust: head.trust.clone(),
            ran: false,
        })
    }

    /// What is left when it has run enough.
    pub fn into_weights(self) -> Weights {
        self.runner.into_weights()
    }
}

impl Session for PlanSession {
    fn declared(&self) -> DeclaredInput {
        self.declared
    }

    fn input_shape(&self) -> InputShape {
        self.shape
    }

    fn outputs(&self) -> &[TensorInfo] {
        &self.infos
    }

    fn threads(&self) -> usize {
        self.threads
    }

    fn input_mut(&mut self) -> &mut [f32] {
        self.runner.input_mut()
    }

    fn run(&mut self) -> Result<(), Error> {
        if self.f16_input {
            half::round(self.input_mut());
        }
        fence::catch(|| self.runner.run()).map_err(|why| Error::Run { engine: NAME, why })?;
        self.ran = true;
        Ok(())
    }

    fn output(&self, index: usize) -> TensorView<'_> {
        match self.infos.get(index) {
            Some(info) if self.ran => TensorView { shape: &info.shape, data: self.runner.output(index) },
            _ => TensorView { shape: &[], data: &[] },
        }
    }

    fn footprint(&self) -> Footprint {
        let weights = size_of_val(self.runner.weights().as_ref()) as u64;
        let work = self.runner.work_bytes() as u64;
        match self.runner.weights() {
            Weights::File(_) => Footprint { shared: weights, own: work },
            Weights::Memory { .. } => Footprint { shared: 0, own: weights + work },
        }
    }

    fn trust(&self) -> Option<&Trust> {
        Some(&self.trust)
    }

    fn sha256(&self) -> Option<&str> {
        Some(&self.sha256)
    }

    fn profile(&mut self, inferences: u32) -> Option<Profile> {
        Some(profile::profile(&mut self.runner, self.kernels, inferences))
    }
}

/** @file A model's forward pass, and its forward and backward pass without an optimiser, on one device of the local engine. */
import { createLocalEngine } from '../../dist/engine/local/engine.js';
import { traceChain } from '../../dist/nn/chain.js';
import { scheduleByName } from '../../dist/plan/schedules/index.js';
import { lowerForward, lowerTraining } from '../../dist/program/lower.js';
import { normalNumbers } from './dit-training.mjs';

const sizeOf = (shape) => shape.reduce((n, d) => n * d, 1);

/** The chain with the sum of its outputs' mean squared errors, against inputs `target.<output>`, as its last layer and only output. */
function withLoss(chain, outputs, shapes) {
	const loss = {
		name: 'loss',
		path: '',
		build({ g }, live) {
			const parts = outputs.map((name, i) => {
				const error = g.sub(live.get(name), live.get(`target.${name}`));
				return g.mul(g.reduceSumSquare(g.reshape(error, [1, -1]), [1], false), 1 / sizeOf(shapes[i]));
			});
			live.set(
				'loss',
				parts.reduce((a, b) => g.add(a, b)),
			);
		},
	};
	const targets = outputs.map((name, i) => [`target.${name}`, { dtype: 'float32', shape: shapes[i].slice(1) }]);
	return { ...chain, inputs: { ...chain.inputs, ...Object.fromEntries(targets) }, layers: [...chain.layers, loss], outputs: ['loss'] };
}

/** Numbers for an input: normally distributed, or whole ones below `below`. */
function filled({ dtype, shape }, batch, below, seed) {
	const whole = [batch, ...shape];
	const count = sizeOf(whole);
	if (dtype !== 'int64') return { dtype, shape: whole, data: normalNumbers(count, seed) };
	const picks = normalNumbers(count, seed);
	return { dtype, shape: whole, data: BigInt64Array.from(picks, (x) => BigInt(Math.floor(Math.abs(x) * 1e4) % below)) };
}

async function started(compiled, inputs) {
	const engine = await createLocalEngine(compiled, { threads: 1 });
	const { device } = compiled.program.devices[0];
	const [bank] = compiled.banks;
	const memory = engine.bank(device, bank.bank, 'parameter');
	// Gains of norms and weights alike: near what training starts with, so that nothing overflows.
	for (const p of bank.parameters) {
		const fan = p.shape.length > 1 ? sizeOf(p.shape.slice(1)) : 1;
		const values = p.shape.length > 1 ? normalNumbers(sizeOf(p.shape), p.offset + 1, fan ** -0.5) : undefined;
		if (values) memory.set(values, p.offset);
		else memory.fill(p.name.endsWith('.bias') ? 0 : 1, p.offset, p.offset + sizeOf(p.shape));
	}
	return {
		/** Trained numbers: fixed position tables apart. */
		parameters: bank.parameters.reduce((n, p) => n + (p.trained ? sizeOf(p.shape) : 0), 0),
		/** Milliseconds of one run, by the clock and of the processor. */
		async time() {
			const start = performance.now();
			const busy = process.cpuUsage();
			const { fetched } = await engine.run('iteration', inputs);
			const { user, system } = process.cpuUsage(busy);
			const ms = performance.now() - start;
			for (const [name, { data }] of fetched) if (!Number.isFinite(data[0])) throw new Error(`${name} is ${data[0]}`);
			return { ms, cpu_ms: (user + system) / 1000 };
		},
		timeline: async () => (await engine.run('iteration', inputs, { trace: true })).timeline,
		close: () => engine.close(),
	};
}

/** Opens `chain` on batches of `batch`: `forward` and `both`, and `inputs`, what a peer is to be fed by name. */
export async function openModel(chain, { batch, outputs = chain.outputs, below }) {
	const bare = { ...chain, outputs };
	const trace = traceChain(bare, batch);
	const shapes = trace.outputs.map((id) => trace.definitions.get(id).shape);
	const trained = withLoss(bare, outputs, shapes);
	const feeds = Object.fromEntries(Object.entries(trained.inputs).map(([name, input], i) => [name, filled(input, batch, below, i + 1)]));
	const own = (inputs) => Object.fromEntries(Object.keys(inputs).map((name) => [name, feeds[name]]));
	const forward = await started(lowerForward(trace, { devices: 1, microBatchSize: batch }), own(chain.inputs));
	const both = await started(
		lowerTraining(traceChain(trained, batch), {
			cuts: [],
			replicas: 1,
			microBatches: 1,
			microBatchSize: batch,
			schedule: scheduleByName('gpipe')({ stages: 1, microBatches: 1 }),
			moments: 0,
			hyperSize: 0,
		}),
		feeds,
	);
	const inputs = Object.entries(chain.inputs).map(([name, { dtype, shape }]) => [name, { dtype, shape: [batch, ...shape], below }]);
	return { forward, both, outputs, inputs: Object.fromEntries(inputs) };
}

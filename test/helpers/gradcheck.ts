/** @file Checks gradient rules against central differences in float64. */
import { type DType, describe, type Shape, sizeOf, type Tensor, tensor, toNumbers } from '../../src/core/tensor.ts';
import { createBuilder, type GraphBuilder } from '../../src/graph/builder.ts';
import { gradients } from '../../src/graph/differentiate.ts';
import { evaluateGraph } from '../../src/graph/evaluate.ts';
import { isFloat } from '../../src/graph/ops/shared.ts';
import type { Value } from '../../src/graph/types.ts';
import { expectClose } from './close.ts';
import { uniformStream } from './random.ts';

/** A random (or given) input of a checked function. */
export interface InputSpec {
	readonly shape: Shape;
	/** Bounds of random values: [low, high), whole numbers for integers. Default [-1, 1); integers [0, 2), so bool is either. */
	readonly range?: readonly [number, number];
	/** Default: the float type of the check. */
	readonly dtype?: DType;
	/** The values themselves, in place of random ones. */
	readonly values?: readonly number[];
}

export interface GradcheckOptions {
	readonly seed?: number;
	readonly rtol?: number;
	readonly atol?: number;
	/** Step of the central differences. Default 1e-5. */
	readonly step?: number;
}

export type BuildFunction = (g: GraphBuilder, ...inputs: Value[]) => Value | readonly Value[];

/** Tensors for `specs`; floats of `float` type. */
export function randomInputs(specs: readonly InputSpec[], float: DType, seed = 1): Tensor[] {
	const next = uniformStream(seed);
	return specs.map(({ shape, range, dtype = float, values }) => {
		const [low, high] = range ?? (isFloat(dtype) ? [-1, 1] : [0, 2]);
		const draw = () => (isFloat(dtype) ? low + (high - low) * next() : Math.floor(low + (high - low) * next()));
		return tensor(dtype, shape, values ?? Array.from({ length: sizeOf(shape) }, draw));
	});
}

/** Outputs of a function of graph values on these tensors. */
export function run(build: BuildFunction, inputs: readonly Tensor[]): Tensor[] {
	const g = createBuilder('run');
	const values = inputs.map((t, i) => g.input(`x${i}`, t.dtype, t.shape));
	const outputs = [build(g, ...values)].flat();
	const results = evaluateGraph(g.finish(outputs), new Map(values.map((v, i) => [v.name, inputs[i]!])));
	return outputs.map((o) => results.get(o.name)!);
}

/**
 * Throws unless the gradients of sum(outputs * random weights) for every float input agree with central differences in
 * float64, and stay the same when each input alone needs one.
 */
export function gradcheck(build: BuildFunction, specs: readonly InputSpec[], options: GradcheckOptions = {}): void {
	const { seed = 1, rtol = 1e-6, atol = 1e-8, step = 1e-5 } = options;
	const inputs = randomInputs(specs, 'float64', seed);
	const g = createBuilder('gradcheck');
	const values = inputs.map((t, i) => g.input(`x${i}`, t.dtype, t.shape));
	const outputs = [build(g, ...values)].flat().filter((o) => isFloat(o.dtype));
	const forward = g.finish(outputs);
	const weights = randomInputs(
		outputs.map((o) => ({ shape: o.shape, range: [0.5, 1.5] })),
		'float64',
		seed + 1,
	);
	const feeds = new Map(values.map((v, i) => [v.name, inputs[i]!]));
	const loss = (changed: number, t: Tensor): number => {
		const results = evaluateGraph(forward, new Map(feeds).set(values[changed]!.name, t));
		let sum = 0;
		outputs.forEach((o, k) => {
			const y = toNumbers(results.get(o.name)!);
			toNumbers(weights[k]!).forEach((w, i) => {
				sum += w * y[i]!;
			});
		});
		return sum;
	};
	const numeric = (i: number): number[] => {
		const x = toNumbers(inputs[i]!);
		const at = (k: number, d: number) => loss(i, tensor('float64', specs[i]!.shape, x.with(k, x[k]! + d)));
		return x.map((_, k) => (at(k, step) - at(k, -step)) / (2 * step));
	};
	const analytic = (wanted: readonly number[]): (Tensor | undefined)[] => {
		const b = createBuilder('backward', forward);
		const seeds = outputs.map((value, k) => ({ value, grad: b.constant(weights[k]!, `weights${k}`) }));
		const grads = gradients(
			b,
			seeds,
			wanted.map((i) => values[i]!),
		);
		const found = grads.flatMap((v) => (v ? [v] : []));
		const results = evaluateGraph(b.finish(found), feeds);
		return grads.map((v) => v && results.get(v.name));
	};
	const floats = inputs.flatMap((t, i) => (isFloat(t.dtype) ? [i] : []));
	const together = analytic(floats);
	floats.forEach((i, k) => {
		const type = describe(inputs[i]!);
		const whole = together[k];
		if (whole && describe(whole) !== type) throw new Error(`gradient of input ${i} is ${describe(whole)}, expected ${type}`);
		const zero = () => new Float64Array(sizeOf(inputs[i]!.shape));
		expectClose(whole ?? zero(), numeric(i), { rtol, atol, what: `gradient of input ${i} ${type}` });
		const [alone] = analytic([i]);
		expectClose(alone ?? zero(), whole ?? zero(), {
			rtol: 1e-12,
			atol: 1e-14,
			what: `gradient of input ${i} ${type} when it alone is needed`,
		});
	});
}

/** @file Builder functions: elementwise arithmetic, comparison, activations, reductions, normalisation. */
import type { DType } from '../../core/tensor.ts';
import type { EmitTools, Operand } from '../builder.ts';
import type { OpKind } from '../ops/kinds.ts';
import { isFloat } from '../ops/shared.ts';
import type { Value } from '../types.ts';

const onnxType = {
	float32: 1,
	uint8: 2,
	int8: 3,
	int32: 6,
	int64: 7,
	bool: 9,
	float16: 10,
	float64: 11,
	bfloat16: 16,
} as const satisfies Record<DType, number>;

/** Functions for operators that keep or reduce shapes. Numbers stand for scalar constants of the other operand's type. */
export function elementwiseFunctions(t: EmitTools) {
	const both = (a: Operand, b: Operand): readonly [Value, Value] => {
		const dtype = typeof a !== 'number' ? a.dtype : typeof b !== 'number' ? b.dtype : 'float32';
		return [t.operand(a, dtype), t.operand(b, dtype)];
	};
	const binary =
		(op: OpKind) =>
		(a: Operand, b: Operand): Value =>
			t.one(op, both(a, b));
	const unary =
		(op: OpKind) =>
		(x: Value): Value =>
			t.one(op, [x]);
	const reduce =
		(op: OpKind) =>
		(x: Value, axes: readonly number[], keepdims = true): Value =>
			t.one(op, [x, t.ints(axes)], { keepdims: keepdims ? 1 : 0 });
	return {
		add: binary('Add'),
		sub: binary('Sub'),
		mul: binary('Mul'),
		div: binary('Div'),
		pow: binary('Pow'),
		max: binary('Max'),
		min: binary('Min'),
		/** The remainder: of whole numbers with the sign of `b`, of floats with that of `a` (fmod). */
		mod: (a: Operand, b: Operand): Value => {
			const [x, y] = both(a, b);
			return t.one('Mod', [x, y], isFloat(x.dtype) ? { fmod: 1 } : {});
		},
		equal: binary('Equal'),
		less: binary('Less'),
		greater: binary('Greater'),
		lessOrEqual: binary('LessOrEqual'),
		greaterOrEqual: binary('GreaterOrEqual'),
		and: binary('And'),
		or: binary('Or'),
		not: unary('Not'),
		where: (condition: Value, a: Operand, b: Operand): Value => t.one('Where', [condition, ...both(a, b)]),
		neg: unary('Neg'),
		abs: unary('Abs'),
		sign: unary('Sign'),
		exp: unary('Exp'),
		log: unary('Log'),
		sqrt: unary('Sqrt'),
		reciprocal: unary('Reciprocal'),
		erf: unary('Erf'),
		sin: unary('Sin'),
		cos: unary('Cos'),
		floor: unary('Floor'),
		ceil: unary('Ceil'),
		round: unary('Round'),
		identity: unary('Identity'),
		cast: (x: Value, to: DType): Value => (x.dtype === to ? x : t.one('Cast', [x], { to: onnxType[to] })),
		clip: (x: Value, low: number | undefined, high: number | undefined): Value =>
			t.one('Clip', [
				x,
				low === undefined ? undefined : t.operand(low, x.dtype),
				...(high === undefined ? [] : [t.operand(high, x.dtype)]),
			]),
		tanh: unary('Tanh'),
		sigmoid: unary('Sigmoid'),
		softplus: unary('Softplus'),
		relu: unary('Relu'),
		leakyRelu: (x: Value, alpha = 0.01): Value => t.one('LeakyRelu', [x], { alpha }),
		elu: (x: Value, alpha = 1): Value => t.one('Elu', [x], { alpha }),
		gelu: (x: Value, approximate: 'none' | 'tanh' = 'none'): Value => t.one('Gelu', [x], { approximate }),
		mish: unary('Mish'),
		hardSwish: unary('HardSwish'),
		hardSigmoid: (x: Value, alpha = 0.2, beta = 0.5): Value => t.one('HardSigmoid', [x], { alpha, beta }),
		reduceSum: reduce('ReduceSum'),
		reduceMean: reduce('ReduceMean'),
		reduceMax: reduce('ReduceMax'),
		reduceMin: reduce('ReduceMin'),
		reduceSumSquare: reduce('ReduceSumSquare'),
		argMax: (x: Value, axis: number, keepdims = true): Value => t.one('ArgMax', [x], { axis, keepdims: keepdims ? 1 : 0 }),
		cumSum: (x: Value, axis: number, exclusive = false, reverse = false): Value =>
			t.one('CumSum', [x, t.operand(axis, 'int64')], { exclusive: exclusive ? 1 : 0, reverse: reverse ? 1 : 0 }),
		softmax: (x: Value, axis = -1): Value => t.one('Softmax', [x], { axis }),
		logSoftmax: (x: Value, axis = -1): Value => t.one('LogSoftmax', [x], { axis }),
		/** y, mean and inverse standard deviation (shapes with the normalised axes as 1). `scale`/`bias` broadcast to x from `axis` on. */
		layerNorm: (
			x: Value,
			scale: Value,
			bias: Value | undefined,
			epsilon: number,
			axis = -1,
		): { y: Value; mean: Value; invStdDev: Value } => {
			const [y, mean, invStdDev] = t.emit('LayerNormalization', bias ? [x, scale, bias] : [x, scale], { axis, epsilon }, 3);
			return { y: y!, mean: mean!, invStdDev: invStdDev! };
		},
		/** x [batch, channels, ...]; scale and bias [channels]. */
		groupNorm: (x: Value, scale: Value, bias: Value, groups: number, epsilon: number): Value =>
			t.one('GroupNormalization', [x, scale, bias], { num_groups: groups, epsilon }),
		instanceNorm: (x: Value, scale: Value, bias: Value, epsilon: number): Value =>
			t.one('InstanceNormalization', [x, scale, bias], { epsilon }),
	};
}

/** ONNX's number of each element type. */
export const onnxElementType: Readonly<Record<DType, number>> = onnxType;

/** Element type of an ONNX number, or undefined when we do not hold it. */
export function dtypeOfOnnx(type: number): DType | undefined {
	return (Object.keys(onnxType) as DType[]).find((d) => onnxType[d] === type);
}

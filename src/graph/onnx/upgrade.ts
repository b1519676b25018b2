/** @file Brings nodes of older operator sets (7 to 20) to the form of opset 21, and expands operators that are others in disguise. */
import { describe, type Tensor, type TypeShape, tensor, toNumbers } from '../../core/tensor.ts';
import { type Fail, wholeNumber } from './attributes.ts';
import type { AttributeProto, NodeProto } from './schema.ts';
import { tensorFromProto } from './tensors.ts';

/** What a conversion may ask about the graph read so far, and add to it. */
export interface UpgradeTools {
	/** Version of the ai.onnx operator set of the file. */
	readonly opset: number;
	/** Where the node is, for errors of nested readers. */
	readonly place: string;
	/** Type of input `i`; fails when it is omitted. */
	input(i: number): TypeShape;
	/** The tensor called `name`, when it is a constant. */
	constant(name: string | undefined): Tensor | undefined;
	/** Makes `name` a constant. */
	define(name: string, value: Tensor): void;
	/** Name of a constant that holds `value`: `hint`, or that with a number where it is taken. */
	add(hint: string, value: Tensor): string;
	/** An unused value name that begins with `hint`. */
	fresh(hint: string): string;
	/** True when a node or the graph's outputs read the value. */
	isRead(name: string | undefined): boolean;
	readonly fail: Fail;
}

/** Turns one node of the file into nodes of opset 21. */
export type Upgrade = (node: NodeProto, tools: UpgradeTools) => readonly NodeProto[];

const intOf = (node: NodeProto, name: string, tools: UpgradeTools): number | undefined => {
	const attribute = node.attributes.get(name);
	if (attribute === undefined) return undefined;
	return attribute.kind === 'int' ? wholeNumber(attribute.value, name, tools.fail) : tools.fail(`attribute ${name} is not an integer`);
};

const without = (node: NodeProto, ...names: string[]): ReadonlyMap<string, AttributeProto> =>
	new Map([...node.attributes].filter(([name]) => !names.includes(name)));

const withInput = (node: NodeProto, index: number, name: string): readonly string[] =>
	Array.from({ length: Math.max(node.inputs.length, index + 1) }, (_, i) => (i === index ? name : (node.inputs[i] ?? '')));

/** Gives the integers of attribute `name`, where the node has it, as input `index`: what operator sets did one after another. */
const listToInput =
	(name: string, index: number): Upgrade =>
	(node, tools) => {
		const attribute = node.attributes.get(name);
		if (attribute === undefined) return [node];
		if (attribute.kind !== 'ints') return tools.fail(`attribute ${name} is not a list of integers`);
		// BigInt64Array rather than numbers: ends of 2^63 - 1 stand for "to the end".
		const list: Tensor = { dtype: 'int64', shape: [attribute.value.length], data: BigInt64Array.from(attribute.value) };
		return [{ ...node, inputs: withInput(node, index, tools.add(name, list)), attributes: without(node, name) }];
	};

/** Gives the number of attribute `name`, where the node has it, as a scalar input `index` of the first input's type. */
const numberToInput =
	(name: string, index: number): Upgrade =>
	(node, tools) => {
		const attribute = node.attributes.get(name);
		if (attribute === undefined) return [node];
		if (attribute.kind !== 'float') return tools.fail(`attribute ${name} is not a number`);
		const scalar = tensor(tools.input(0).dtype, [], [attribute.value]);
		return [{ ...node, inputs: withInput(node, index, tools.add(name, scalar)), attributes: without(node, name) }];
	};

/** Applies upgrades one after another. */
const chain =
	(...steps: Upgrade[]): Upgrade =>
	(node, tools) =>
		steps.reduce<readonly NodeProto[]>((nodes, step) => nodes.flatMap((n) => step(n, tools)), [node]);

const identity = (node: NodeProto): NodeProto => ({
	...node,
	opType: 'Identity',
	inputs: node.inputs.slice(0, 1),
	outputs: node.outputs.slice(0, 1),
	attributes: new Map(),
});

const constant: Upgrade = (node, tools) => {
	const [form, attribute] = [...node.attributes][0] ?? [];
	const output = node.outputs[0];
	if (node.attributes.size !== 1 || !attribute || !output) return tools.fail('a Constant must have one attribute and one output');
	const value = (): Tensor => {
		switch (attribute.kind) {
			case 'tensor':
				return tensorFromProto(attribute.value, tools.place);
			case 'float':
				return tensor('float32', [], [attribute.value]);
			case 'floats':
				return tensor('float32', [attribute.value.length], attribute.value);
			case 'int':
				return { dtype: 'int64', shape: [], data: BigInt64Array.of(attribute.value) };
			case 'ints':
				return { dtype: 'int64', shape: [attribute.value.length], data: BigInt64Array.from(attribute.value) };
			default:
				return tools.fail(`constants of the form ${form} are not supported`, {
					expected: 'value, value_float, value_floats, value_int or value_ints',
				});
		}
	};
	tools.define(output, value());
	return [];
};

/** Dropout does nothing in inference, which is what a file without an explicit training_mode means. */
const dropout: Upgrade = (node, tools) => {
	if (tools.isRead(node.outputs[1])) return tools.fail('the mask of Dropout is read', { expected: 'a model exported for inference' });
	const training = node.inputs[2];
	const mode = tools.constant(training);
	if (training && (!mode || toNumbers(mode)[0] !== 0))
		return tools.fail('Dropout is in training mode', { expected: 'a model exported for inference' });
	return [identity(node)];
};

/** (x - mean) / sqrt(var + epsilon) * scale + bias with constant statistics is one factor and one term per channel. */
const batchNormalization: Upgrade = (node, tools) => {
	if (intOf(node, 'training_mode', tools) || node.outputs.slice(1).some((name) => tools.isRead(name))) {
		return tools.fail('BatchNormalization is in training mode', { expected: 'a model exported for inference' });
	}
	if ((intOf(node, 'spatial', tools) ?? 1) !== 1)
		return tools.fail('statistics per position are not supported', { expected: 'spatial = 1' });
	const x = tools.input(0);
	const [scale, bias, mean, variance] = [1, 2, 3, 4].map((i) => {
		const found = tools.constant(node.inputs[i]);
		return found
			? toNumbers(found)
			: tools.fail(`input ${i} of BatchNormalization is not a constant`, { expected: 'trained statistics in the file' });
	}) as [number[], number[], number[], number[]];
	const channels = x.shape[1] ?? tools.fail('BatchNormalization needs a channel axis', { found: describe(x) });
	if ([scale, bias, mean, variance].some((list) => list.length !== channels)) {
		return tools.fail('the statistics do not have one number per channel', { expected: `${channels} numbers` });
	}
	const attribute = node.attributes.get('epsilon');
	const epsilon = attribute?.kind === 'float' ? attribute.value : 1e-5;
	const factor = scale.map((s, i) => s / Math.sqrt(variance[i]! + epsilon));
	const term = bias.map((b, i) => b - mean[i]! * factor[i]!);
	const perChannel = (hint: string, values: number[]) =>
		tools.add(`${node.outputs[0]}/${hint}`, tensor(x.dtype, [channels, ...x.shape.slice(2).map(() => 1)], values));
	const scaled = tools.fresh(`${node.outputs[0]}/scaled`);
	const piece = { ...node, attributes: new Map<string, AttributeProto>() };
	return [
		{ ...piece, opType: 'Mul', inputs: [node.inputs[0]!, perChannel('factor', factor)], outputs: [scaled] },
		{ ...piece, opType: 'Add', inputs: [scaled, perChannel('term', term)], outputs: node.outputs.slice(0, 1) },
	];
};

/** Until opset 12, Softmax ran over all axes from `axis` on, taken as one; with the last axis alone that is today's meaning. */
const softmax: Upgrade = (node, tools) => {
	if (tools.opset >= 13) return [node];
	const rank = tools.input(0).shape.length;
	const axis = intOf(node, 'axis', tools) ?? 1;
	if (axis !== -1 && axis !== rank - 1) {
		return tools.fail(`before opset 13 ${node.opType} runs over several axes at once`, {
			expected: `axis ${rank - 1}, the last one`,
			found: `axis ${axis}`,
			hint: 'export the model with opset 13 or later',
		});
	}
	return [{ ...node, attributes: new Map([['axis', { kind: 'int', value: BigInt(axis) }]]) }];
};

/** Before opset 18, a Split without sizes made equal pieces, as many as outputs; now the node says how many. */
const splitCount: Upgrade = (node, tools) => {
	if (node.inputs[1] || node.attributes.has('num_outputs')) return [node];
	const { shape } = tools.input(0);
	const axis = intOf(node, 'axis', tools) ?? 0;
	const length = shape.at(axis) ?? tools.fail(`axis ${axis} is out of range`, { found: describe(tools.input(0)) });
	const count = node.outputs.length;
	if (length % count !== 0)
		return tools.fail(`axis ${axis} does not split into ${count} equal pieces`, { found: describe(tools.input(0)) });
	return [{ ...node, attributes: new Map([...node.attributes, ['num_outputs', { kind: 'int', value: BigInt(count) }]]) }];
};

/** Max and Min take any number of operands in ONNX; here they take two. */
const variadic: Upgrade = (node, tools) => {
	if (node.inputs.length === 1) return [identity(node)];
	let left = node.inputs[0]!;
	return node.inputs.slice(1).map((right, i, rest) => {
		const output = i === rest.length - 1 ? node.outputs[0]! : tools.fresh(`${node.outputs[0]}/part`);
		const step = { ...node, inputs: [left, right], outputs: [output] };
		left = output;
		return step;
	});
};

/** Before opset 21, scale and bias had one number per group; now one per channel. */
const groupNormalization: Upgrade = (node, tools) => {
	if (tools.opset >= 21) return [node];
	const channels = tools.input(0).shape[1] ?? 0;
	const spread = (i: number): string => {
		const perGroup = tools.constant(node.inputs[i]);
		if (!perGroup) return tools.fail(`input ${i} of GroupNormalization is not a constant`, { hint: 'export the model with opset 21' });
		const values = toNumbers(perGroup);
		const each = channels / values.length;
		if (!Number.isInteger(each)) return tools.fail(`${channels} channels do not divide into ${values.length} groups`);
		const repeated = values.flatMap((v) => new Array<number>(each).fill(v));
		return tools.add(node.inputs[i]!, tensor(perGroup.dtype, [channels], repeated));
	};
	return [{ ...node, inputs: [node.inputs[0]!, spread(1), spread(2)] }];
};

/** Opset 10 had no region, sizes or choice of coordinates: positions were divided by the scales and rounded down. */
const resize: Upgrade = (node, tools) => {
	if (tools.opset >= 11) return [node];
	const text = (value: string): AttributeProto => ({ kind: 'string', value });
	const added = [
		['coordinate_transformation_mode', text('asymmetric')],
		['nearest_mode', text('floor')],
	] as const;
	const [x = '', scales = ''] = node.inputs;
	return [{ ...node, inputs: [x, '', scales], attributes: new Map([...node.attributes, ...added]) }];
};

const reduction = listToInput('axes', 1);

/** Operators that need a look before they are taken over; those that are not of our table become others. */
export const upgrades: Readonly<Record<string, Upgrade>> = {
	Constant: constant,
	Dropout: dropout,
	BatchNormalization: batchNormalization,
	Clip: chain(numberToInput('min', 1), numberToInput('max', 2)),
	Pad: chain(listToInput('pads', 1), numberToInput('value', 2)),
	Slice: chain(listToInput('starts', 1), listToInput('ends', 2), listToInput('axes', 3)),
	Squeeze: listToInput('axes', 1),
	Unsqueeze: listToInput('axes', 1),
	ReduceSum: reduction,
	ReduceMean: reduction,
	ReduceMax: reduction,
	ReduceMin: reduction,
	ReduceSumSquare: reduction,
	Split: chain(listToInput('split', 1), splitCount),
	Softmax: softmax,
	LogSoftmax: softmax,
	Max: variadic,
	Min: variadic,
	Resize: resize,
	GroupNormalization: groupNormalization,
};

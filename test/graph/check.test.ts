import { describe, expect, it } from 'vitest';
import { tensor } from '../../src/core/tensor.ts';
import { createBuilder } from '../../src/graph/builder.ts';
import { checkGraph } from '../../src/graph/check.ts';
import type { Graph, Node, Value, ValueName } from '../../src/graph/types.ts';

/** y = exp(x) * 2, z = neg(y), under the layer `mid`. */
function sound(): Graph {
	const g = createBuilder('sound');
	const x = g.input('x', 'float32', [2, 3]);
	return g.finish([g.scope('mid', () => g.neg(g.mul(g.exp(x), g.constant(tensor('float32', [3], [2, 2, 2]), 'two'))))]);
}

const graph = sound();
const [exp, mul, neg] = graph.nodes as [Node, Node, Node];
const name = (s: string) => s as ValueName;
const withValue = (key: string, value: Partial<Value>): Graph['values'] =>
	new Map(graph.values).set(name(key), { ...graph.values.get(name(key))!, ...value });
const without = (key: string): Graph['values'] => new Map([...graph.values].filter(([k]) => k !== key));

describe('checkGraph', () => {
	it('returns a sound graph as it is', () => {
		expect(checkGraph(graph, 'nothing')).toBe(graph);
	});

	it.each<[string, Graph, RegExp]>([
		['an input is there twice', { ...graph, inputs: [name('x'), name('x')] }, /inputs: value x is defined twice$/],
		[
			'a node makes an input',
			{ ...graph, nodes: [{ ...exp, outputs: [name('x')] }, mul, neg] },
			/node 0 Exp in mid: value x is defined twice$/,
		],
		['a constant is an input', { ...graph, inputs: [name('x'), name('two')] }, /constants: value two is defined twice$/],
		['an input has no type', { ...graph, values: without('x') }, /inputs: value x has no type$/],
		[
			'an output of a node has no type',
			{ ...graph, values: without(exp.outputs[0]!) },
			/node 0 Exp in mid: value mid\/Exp_\d has no type$/,
		],
		[
			'a value is filed under another name',
			{ ...graph, values: withValue('x', { name: name('y') }) },
			/inputs: value x is filed under another name$/,
		],
		[
			'a constant is not of its value type',
			{ ...graph, constants: new Map([[name('two'), tensor('float32', [1], [2])]]) },
			/constants: constant two is float32\[1\], its value says float32\[3\]$/,
		],
		['nodes are out of order', { ...graph, nodes: [mul, exp, neg] }, /node 0 Mul in mid: input mid\/Exp_\d is not defined before it$/],
		[
			'an input is of nowhere',
			{ ...graph, nodes: [exp, mul, { ...neg, inputs: [name('ghost')] }] },
			/node 2 Neg in mid: input ghost is not defined before it$/,
		],
		[
			'a value is filed with another shape than inferred',
			{ ...graph, values: withValue(neg.outputs[0]!, { shape: [3, 2] }) },
			/node 2 Neg in mid: output mid\/Neg_\d is filed as float32\[3,2\], inferred float32\[2,3\]$/,
		],
		[
			'a value is filed with another element type than inferred',
			{ ...graph, values: withValue(exp.outputs[0]!, { dtype: 'float64' }) },
			/node 0 Exp in mid: output mid\/Exp_\d is filed as float64\[2,3\], inferred float32\[2,3\]$/,
		],
		['an output is of nowhere', { ...graph, outputs: [name('ghost')] }, /outputs: output ghost is not defined$/],
		[
			'an output is there twice',
			{ ...graph, outputs: [graph.outputs[0]!, graph.outputs[0]!] },
			/outputs: output mid\/Neg_\d is listed twice$/,
		],
		[
			'an operator is not known',
			{ ...graph, nodes: [exp, mul, { ...neg, op: 'Nego' as never }] },
			/mid: Nego\(float32\[2,3\]\): operator Nego is not known$/,
		],
		[
			'an attribute is not known',
			{ ...graph, nodes: [exp, mul, { ...neg, attributes: { axis: 1 } }] },
			/mid: Neg\(float32\[2,3\]\): attribute axis is not known\n {2}expected: none$/,
		],
		[
			'an input is left out',
			{ ...graph, nodes: [exp, { ...mul, inputs: [exp.outputs[0]!, ''] }, neg] },
			/mid: Mul\(float32\[2,3\], omitted\): input 1 is omitted but required$/,
		],
		[
			'there are too many inputs',
			{ ...graph, nodes: [exp, mul, { ...neg, inputs: [mul.outputs[0]!, mul.outputs[0]!] }] },
			/Neg\(.*\): 2 inputs given\n {2}expected: 1$/,
		],
		[
			'there are too many outputs',
			{ ...graph, nodes: [exp, mul, { ...neg, outputs: [neg.outputs[0]!, name('more')] }] },
			/Neg\(.*\): 2 outputs asked for\n {2}expected: 1 to 1$/,
		],
	])('says where, and after which pass, when %s', (_, broken, message) => {
		const check = () => checkGraph(broken, 'a pass');
		expect(check).toThrow(message);
		expect(check).toThrow(/^graph sound after a pass: /);
	});
});

// Builds a small graph, differentiates it, and writes both parts as ONNX files to open in Netron.
import { writeFile } from 'node:fs/promises';
import { createBuilder, differentiate, graphToText, writeOnnx } from 'diffusionpipe';

const g = createBuilder('layer');
const x = g.input('x', 'float32', [8, 16]);
const weight = g.input('weight', 'float32', [32, 16]);
const bias = g.input('bias', 'float32', [32]);
const y = g.gelu(g.gemm(x, weight, bias, { transB: true }), 'tanh');
const graph = g.finish([y]);

const { forward, backward, saved } = differentiate(graph, {
	outputs: graph.outputs,
	inputs: ['x'],
	weights: ['weight', 'bias'],
});

console.log(graphToText(backward));
console.log(`kept between forward and backward: ${saved.join(', ')}`);
await writeFile('layer-forward.onnx', writeOnnx(forward));
await writeFile('layer-backward.onnx', writeOnnx(backward));

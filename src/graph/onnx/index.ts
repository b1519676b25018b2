/** @file Reading and writing ONNX model files. */
export { type ReadOnnxOptions, readOnnx } from './read.ts';
export { type WriteOnnxOptions, writeOnnx } from './write.ts';

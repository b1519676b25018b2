/** @file The operators we know, by family. Adding one is a name here, an entry in its family's file and a builder function. */

export type BinaryOp = 'Add' | 'Sub' | 'Mul' | 'Div' | 'Pow' | 'Max' | 'Min' | 'Mod';
export type CompareOp = 'Equal' | 'Less' | 'Greater' | 'LessOrEqual' | 'GreaterOrEqual' | 'And' | 'Or' | 'Not' | 'Where';
export type UnaryOp =
	| 'Neg'
	| 'Abs'
	| 'Sign'
	| 'Exp'
	| 'Log'
	| 'Sqrt'
	| 'Reciprocal'
	| 'Erf'
	| 'Sin'
	| 'Cos'
	| 'Floor'
	| 'Ceil'
	| 'Round'
	| 'Identity'
	| 'Cast'
	| 'Clip';
export type ActivationOp = 'Tanh' | 'Sigmoid' | 'Softplus' | 'Relu' | 'LeakyRelu' | 'Elu' | 'Gelu' | 'Mish' | 'HardSwish' | 'HardSigmoid';
export type ReduceOp = 'ReduceSum' | 'ReduceMean' | 'ReduceMax' | 'ReduceMin' | 'ReduceSumSquare' | 'ArgMax' | 'CumSum';
export type SoftmaxOp = 'Softmax' | 'LogSoftmax';
export type ProductOp = 'MatMul' | 'Gemm';
export type ConvOp = 'Conv' | 'ConvTranspose';
export type PoolOp = 'AveragePool' | 'GlobalAveragePool' | 'MaxPool' | 'Resize';
export type NormOp = 'LayerNormalization' | 'GroupNormalization' | 'InstanceNormalization';
export type ShapeOp =
	| 'Reshape'
	| 'Transpose'
	| 'Concat'
	| 'Split'
	| 'Slice'
	| 'Expand'
	| 'Squeeze'
	| 'Unsqueeze'
	| 'Flatten'
	| 'Pad'
	| 'Tile'
	| 'DepthToSpace'
	| 'SpaceToDepth';
export type IndexOp =
	| 'Gather'
	| 'GatherElements'
	| 'ScatterElements'
	| 'ScatterND'
	| 'OneHot'
	| 'Trilu'
	| 'Shape'
	| 'ConstantOfShape'
	| 'Range';
/** Operators of the engines, made by lowering only. */
export type LoweredOp = 'FusedMatMul' | 'FastGelu' | 'QuickGelu' | 'BiasGelu' | 'SkipLayerNormalization';

/** Convolutions over blocks of channels, made by lowering only. */
export type BlockedOp = 'NchwcReorderInput' | 'NchwcReorderOutput' | 'NchwcConv';

export type OpKind =
	| BinaryOp
	| CompareOp
	| UnaryOp
	| ActivationOp
	| ReduceOp
	| SoftmaxOp
	| ProductOp
	| ConvOp
	| PoolOp
	| NormOp
	| ShapeOp
	| IndexOp
	| LoweredOp
	| BlockedOp;

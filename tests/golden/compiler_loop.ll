define internal void @k0(ptr noalias %ctx, i64 %lo, i64 %hi, i64 %step, i64 %row) noinline nounwind {
entry:
  %v1 = getelementptr i64, ptr %ctx, i64 10
  %v2 = load ptr, ptr %v1, align 8
  %v3 = getelementptr i64, ptr %ctx, i64 9
  %v4 = load ptr, ptr %v3, align 8
  %v5 = getelementptr i64, ptr %ctx, i64 8
  %v6 = load ptr, ptr %v5, align 8
  %v7 = mul i64 %lo, 16
  %v8 = mul i64 %hi, 16
  %v9 = sub i64 %v8, %v7
  %v10 = and i64 %v9, -8
  %v11 = add i64 %v7, %v10
  %v14 = icmp slt i64 %v7, %v11
  br i1 %v14, label %loop12, label %end13
loop12:
  %i15 = phi i64 [%v7, %entry], [%v23, %loop12]
  %v16 = getelementptr float, ptr %v2, i64 %i15
  %v17 = getelementptr float, ptr %v4, i64 %i15
  %v18 = getelementptr float, ptr %v6, i64 %i15
  %v19 = load <8 x float>, ptr %v17, align 4
  %v20 = load <8 x float>, ptr %v18, align 4
  %v21 = fmul <8 x float> %v19, %v20
  %v22 = fadd <8 x float> %v21, splat (float 0x3FF0000000000000)
  store <8 x float> %v22, ptr %v16, align 4
  %v23 = add nsw i64 %i15, 8
  %v24 = icmp slt i64 %v23, %v11
  br i1 %v24, label %loop12, label %end13
end13:
  %v27 = icmp slt i64 %v11, %v8
  br i1 %v27, label %loop25, label %end26
loop25:
  %i28 = phi i64 [%v11, %end13], [%v36, %loop25]
  %v29 = getelementptr float, ptr %v2, i64 %i28
  %v30 = getelementptr float, ptr %v4, i64 %i28
  %v31 = getelementptr float, ptr %v6, i64 %i28
  %v32 = load float, ptr %v30, align 4
  %v33 = load float, ptr %v31, align 4
  %v34 = fmul float %v32, %v33
  %v35 = fadd float %v34, 0x3FF0000000000000
  store float %v35, ptr %v29, align 4
  %v36 = add nsw i64 %i28, 1
  %v37 = icmp slt i64 %v36, %v8
  br i1 %v37, label %loop25, label %end26
end26:
  ret void
}

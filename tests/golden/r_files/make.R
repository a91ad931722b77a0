# Files that R 4.2.2 writes, for tests/test_neuralnet.py and tests/test_read_r_model.py.
# neuralnet is version 1.44.6 (github.com/bips-hb/neuralnet), whose networks have an output activation of their own.
library(neuralnet)
set.seed(1)
keep <- function(nn) { # leave out what takes space and is not read
  nn[c("net.result", "generalized.weights", "startweights", "data", "response", "covariate")] <- NULL
  nn
}
answers <- list()
save <- function(name, nn, rep = NULL, write = saveRDS, ...) {
  if (is.null(rep)) rep <- which.min(nn$result.matrix["error", ])
  answers[[name]] <<- predict(nn, iris[c(1, 60, 120), ], rep = rep)
  class(nn) <- "nn"
  k <- keep(nn); class(k) <- "nn"
  write(k, paste0(name, ".rds"), ...)
}
f <- Species == "setosa" ~ Petal.Length + Petal.Width
save("output_activation", neuralnet(f, iris, hidden = 3, act.fct = "tanh", output.act.fct = "logistic", linear.output = FALSE, stepmax = 1e5, threshold = 0.1))
save("relu_no_hidden_bias", neuralnet(Sepal.Length ~ Petal.Length + Petal.Width, iris, hidden = 3, act.fct = "relu", threshold = 5, stepmax = 1e5), compress = "xz")
save("no_hidden", neuralnet(Sepal.Length ~ Petal.Length + Petal.Width, iris, hidden = 0, threshold = 1), ascii = TRUE)
save("excluded", neuralnet(Sepal.Length ~ Petal.Length + Petal.Width, iris, hidden = 2, exclude = c(2, 5), threshold = 5), compress = "bzip2")
# Some repetitions do not converge: they have no column in result.matrix, but an entry in weights.
repeat { # until the best comes after one that failed
  nn <- suppressWarnings(neuralnet(f, iris, hidden = 3, linear.output = FALSE, rep = 4, stepmax = 40, threshold = 0.2))
  ok <- which(!sapply(nn$weights, is.null))
  if (length(ok) > 1 && ok[which.min(nn$result.matrix["error", ])] > which.min(nn$result.matrix["error", ])) break
}
save("some_failed", nn, rep = ok[which.min(nn$result.matrix["error", ])], compress = FALSE)
nn <- suppressWarnings(neuralnet(f, iris, hidden = 3, linear.output = FALSE, stepmax = 2))
saveRDS(keep2 <- { k <- nn[c("call", "model.list", "act.fct", "linear.output")]; class(k) <- "nn"; k }, "not_converged.rds")
softplus <- function(x) log(1 + exp(x))
nn <- neuralnet(f, iris, hidden = 2, linear.output = FALSE, threshold = 1)
nn$act.fct <- structure(softplus, type = "function") # as neuralnet() does; it needs the package Deriv
k <- keep(nn); class(k) <- "nn"; saveRDS(k, "custom.rds")
# A wide formula lies deep.
wide <- as.data.frame(matrix(rnorm(20 * 500), 20)); wide$y <- rnorm(20)
nn <- neuralnet(as.formula(paste("y ~", paste0("V", 1:500, collapse = " + "))), wide, hidden = 1, threshold = 100)
k <- keep(nn); class(k) <- "nn"; attr(k, "wide") <- NULL; saveRDS(k, "wide.rds")
answers[["wide"]] <- predict(nn, rbind(rep(0, 500), 1:500 / 500, rep(-1, 500)))
# Fitted within a function, with byte code, promises and environments about
fit <- compiler::cmpfun(function(data, ...) {
  nn <- neuralnet(Sepal.Length ~ Petal.Length, data, hidden = 2, threshold = 5, ...)
  delayedAssign("later", stop("code ran"))
  makeActiveBinding("bound", function() stop("code ran"), environment())
  nn$trap <- list(environment(), as.raw(1:5), mean, as.environment("package:stats"), asNamespace("stats"), new.env(), compiler::cmpfun(function(x = stop("code ran")) for (i in 1:3) x), quote(stop("code ran")))
  nn
})
nn <- fit(iris)
class(nn) <- "nn"; saveRDS(nn, "within_function.rds")
answers[["within_function"]] <- predict(nn, iris[c(1, 60, 120), "Petal.Length", drop = FALSE])

# Lists of R innsight's, as `converter$model_as_list` has them with plain arrays, from golden/zoo
golden <- commandArgs(TRUE)[1]
for (name in c("conv2d_batchnorm", "two_in_two_out")) {
  model <- jsonlite::fromJSON(gzfile(file.path(golden, paste0(name, ".json.gz"))), simplifyVector = FALSE)$model
  arrays <- function(x) {
    if (!is.list(x)) return(x)
    if (setequal(names(x), c("shape", "data"))) {
      dim <- unlist(x$shape); data <- as.numeric(unlist(x$data))
      return(if (length(dim) == 1) data else aperm(array(data, rev(dim))))
    }
    if (is.null(names(x)) && all(sapply(x, is.numeric))) return(unlist(x))
    if (is.null(names(x)) && all(sapply(x, is.character))) return(unlist(x))
    lapply(x, arrays)
  }
  model <- arrays(model)
  names(model$layers) <- paste0(sapply(model$layers, `[[`, "type"), "_", seq_along(model$layers))
  model$layers[[1]]["dim_in"] <- list(NULL)
  dims <- if (is.list(model$input_dim)) model$input_dim else list(model$input_dim)
  model$input_names <- lapply(dims, function(d) lapply(d, function(n) factor(paste0("n", 1:n), levels = paste0("n", n:1))))
  saveRDS(model, paste0(name, ".rds"))
  jsonlite::write_json(model, paste0(name, ".json"), digits = NA, null = "null")
}
# vectors in R's other forms, and what is refused
saveRDS(list(sequence = 1:5, real = as.numeric(3:6), texts = as.character(1:3), missing = c(1L, NA), truth = c(TRUE, NA),
             latin = iconv("\u00e4", "UTF-8", "latin1"), utf8 = "\u03b2", matrix = matrix(1:6, 2), nothing = NULL, list("a", 2)), "forms.rds")
tensor <- structure(methods::new("externalptr"), class = "torch_tensor")
as.array.torch_tensor <- function(x, ...) matrix(1:2, 1)
with_tensor <- list(input_dim = 2, layers = list(Dense_1 = list(type = "Dense", weight = tensor, bias = 0, dim_in = NULL)))
saveRDS(with_tensor, "tensor.rds")
replaced <- rapply(with_tensor, as.array, classes = "torch_tensor", how = "replace")
stopifnot(identical(replaced$layers$Dense_1, list(type = "Dense", weight = matrix(1:2, 1), bias = 0, dim_in = NULL)))
jsonlite::write_json(answers, "answers.json", digits = NA)
saveRDS(lm(Sepal.Length ~ Petal.Length, iris[1:5, ]), "lm.rds")
x <- 1:3; base::save(x, file = "x.RData")
